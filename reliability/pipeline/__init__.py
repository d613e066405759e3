"""The way through the house, one module per stage.

    trigger -> intake -> delivery -> dispatch: claim -> guard -> send -> settle -> delivered
                                                                       |-> retry, later -> dispatch
                                                                       |-> dead letter -> replay -> delivery

intake      accepts a trigger once per idempotency key, with its wake-up, in one transaction
dispatcher  per process: which lanes to look at, and the threads that send
dispatch    one look at a lane: settle what came back, claim what is due under every limit
circuit     keeps what the breaker policy decides
transport   sends one attempt; the only module that opens a socket
outcome     writes down what an attempt means for its delivery
aftermath   holds what n8n says of an execution later, or sooner, against its delivery
reports     takes in the failures that n8n reports: joined to a delivery (`lookup` asks n8n which), or buried
callback    takes in a workflow's own report of its end; figures, an execution's figures
retry       brings a dead letter back by n8n's own retry; n8n_api is the way there
replay      takes a dead letter back onto the way; purges one, and undoes that
operations  the same with many, by a frozen filter: `preview` looks at it before (`candidates` says what it is about),
            `bulk` works it off step by step
control     the operator's hand on workflows and deliveries: cancel, send now, pause, resume; `flags` switches whole
            parts off and on, `endpoints` and `keys` are for secrets
status      one look at everything
ledger      Stripe's events: verified, recorded once, routed to intake; `reconcile` finds what was missed
claims      the right to have an event's effect, for workflows that Stripe calls directly
permits     what a lane's breaker says to work that others start; `slots` lends places of its limit
retention   what is kept for how long: `retention_rules`, applied in batches
doctor      what is wrong with an installation, and what to do about it
archive     dead letters past their time, into files of `archive_store`; `archive_restore` brings them back
"""

"""A delivery's way from acceptance to its end: `intake` accepts, `dispatcher` and `dispatch` claim what is due,
`sending` sends, `settle` and `lease_expiry` write down what came of it, `correlation` what n8n says of it later.
"""

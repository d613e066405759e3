"""What `GET /metrics` says.

    views -> scrape: each part on its own, so that one that fails hides no other
               lanes, standing    from the database: right with any number of processes, machines and restarts
               web                from the web processes of this host (`multiprocess`), and what they use
               parts that other rooms register (`catalogue.register`)

`catalogue` describes every metric of Backstop's own; a part makes its families by it.
"""

"""The metrics of `GET /metrics`, for Prometheus.

    views -> scrape: collects each part separately, so that one that fails does not hide the others
               lanes, lane_gauges   from the database: the same for any number of processes, machines and restarts
               web                  counts and memory of the web processes of this host (`multiprocess`)
               parts that other packages register (`catalogue.register`)

`catalogue` defines every metric of Backstop's own: name, type, labels and meaning.
"""

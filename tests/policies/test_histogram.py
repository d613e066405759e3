import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliability.policies.histogram import count, quantile

EDGES = (10, 20, 40)


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ([], [0, 0, 0, 0]),
        ([0, 10], [2, 0, 0, 0]),
        ([10.5, 20, 39, 41, 1e9], [0, 2, 1, 2]),
    ],
)
def test_a_value_falls_into_the_bucket_whose_edge_it_does_not_pass(values, counts):
    assert count(values=values, edges=EDGES) == counts


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ([0, 0, 0, 0], 0.5, None),
        ([], 0.5, None),
        ([4, 0, 0, 0], 0.5, 5.0),
        ([0, 4, 0, 0], 1.0, 20.0),
        ([1, 0, 1, 0], 0.95, 38.0),  # rank 1.9: nine tenths of the way from 20 to 40
        ([1, 0, 0, 9], 0.95, 40.0),
    ],
)
def test_a_quantile_lies_within_its_bucket(counts, share, value):
    assert quantile(counts=counts, edges=EDGES, share=share) == (value if value is None else pytest.approx(value))


@given(st.lists(st.floats(0, 40), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_no_further_off_than_its_bucket_is_wide(values, share):
    found = quantile(counts=count(values=values, edges=EDGES), edges=EDGES, share=share)
    exact = sorted(values)[max(0, -(-int(share * len(values) * 1000) // 1000) - 1)]
    assert found is not None
    assert abs(found - exact) <= 40

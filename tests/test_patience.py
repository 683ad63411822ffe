"""Early stopping by hand."""

from emojax.patience import Patience


def test_counts_evaluations_without_improvement():
    waited, wait = [], Patience()
    for rank in (0.50, 0.52, 0.52, 0.51, 0.55, 0.555):
        wait = wait.after(rank, min_delta=0.01)
        waited.append(wait.waited)
    assert waited == [0, 0, 1, 2, 0, 1]


def test_many_small_gains_are_an_improvement_once_they_add_up():
    wait = Patience()
    for rank in (0.500, 0.504, 0.508):
        wait = wait.after(rank, min_delta=0.01)
    assert wait == Patience(0.500, 2) and wait.after(0.512, min_delta=0.01) == Patience(0.512, 0)

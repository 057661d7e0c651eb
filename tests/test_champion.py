"""What the champion stage writes for `dvc plots`."""

import pandas as pd
import pytest

from stages.champion import thin


@pytest.mark.parametrize(("rows", "most", "kept"), [(0, 5, 0), (5, 5, 5), (6, 5, 3), (292_000, 555, 555)])
def test_a_plot_gets_at_most_so_many_points_from_all_over_the_table(rows, most, kept):
    found = thin(pd.DataFrame({"row": range(rows)}), most)["row"]
    assert len(found) == kept
    assert len(set(found.diff().dropna())) <= 1
    assert found.max() >= rows * (most - 1) / most - 1 or rows <= most

"""What the report says of electricity, measured or not."""

from ddb_jax.stages.report.provenance import energy_cells, total_energy


def test_the_cells_of_a_stage():
    # 475 g a kilowatt-hour: 12 Wh are 5.7 g.
    assert energy_cells(12.0, "codecarbon 3.2") == ["12.0", "5.700", "codecarbon 3.2"]
    assert energy_cells(None, None) == ["not measured"] * 3
    # As runs of earlier versions wrote it.
    assert energy_cells(2.0, "estimate: 10 W for each of the 2 cores")[0] == "2.0"
    assert energy_cells(0.0, "not measured") == ["0.0", "0.000", "not measured"]


def test_the_sentence_on_the_total():
    assert total_energy([12.0, 8.0]) == (
        "All stages took 20.00 watt-hours, 9.5 g of CO2 at 475 g a kilowatt-hour."
    )
    assert total_energy([12.0, None, 8.0, None]) == (
        "2 stages took 20.00 watt-hours, 9.5 g of CO2 at 475 g a kilowatt-hour; 2 others were not"
        " measured."
    )
    assert total_energy([None, None]).startswith("Electricity was not measured")

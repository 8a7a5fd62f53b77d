"""`vitreous shard` on the command line."""

from tests.support.packs import table


def test_the_command_writes_and_goes_on(vitreous, here) -> None:
    table(here / "in.parquet", [0, 1, 0, 1])
    vitreous("shard", "in.parquet", "out", "--megabytes", "0.0005").worked("holds 4 train images in 2 shards", "next:")
    vitreous("shard", "in.parquet", "out", "--megabytes", "0.0005").worked("2 already existed and are undamaged")
    vitreous("shard", "in.parquet", "out").refused("begun with shards of another size")
    vitreous("shard", "gone", "out").refused("gone")
    for size in ("nan", "inf", "0", "-1"):
        vitreous("shard", "gone", "out", "--megabytes", size).refused(
            f"--megabytes is {size}; it must be a number above 0"
        )

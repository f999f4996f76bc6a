"""The cases of the bench, one file each; `bench.suite` lists them in the order they run."""

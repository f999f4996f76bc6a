"""What is looked at, one file each; every case takes the rig and gives a `CaseResult`."""

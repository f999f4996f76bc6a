"""Admission and accounts: who may, who pays, what was used."""

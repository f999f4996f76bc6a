"""Every inbound surface over every provider wire: see `test_matrix`."""

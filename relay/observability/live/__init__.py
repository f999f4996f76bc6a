"""What the dashboard shows: in each worker what ended lately (`recorder`), where they meet what all
of them say (`joined`), in words (`findings`), and to whoever looks (`feed`)."""

"""What the option `--cert-dir` is for, apart from the server, which takes long to import."""

CERT_DIR_HELP = "where ca.pem, cert.pem and key.pem are kept; else a temporary directory"

"""Upstream HTTP; the only importer of wreq, pyqwest, httpx2 and ssl."""

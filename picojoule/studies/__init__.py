"""Studies: searches over hardware and compression that survive a crash, kept in a folder."""

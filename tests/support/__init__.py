"""What tests share: servers of their own, benches for parts of the host, and values to test with."""

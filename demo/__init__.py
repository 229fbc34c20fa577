"""What a person needs to try the server without the internet: a model made on the spot and a hub on loopback."""

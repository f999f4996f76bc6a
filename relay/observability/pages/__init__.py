"""The dashboard and the playground: pages of the admin listener, and the routes they live on."""

//! Events: a server and its clients, with handlers, requests and broadcasts.

"""The contract `editcritic.v1`: messages, services, errors and pictures on the wire."""

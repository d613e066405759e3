"""What all API views share: authentication, parsing, pagination, errors, JSON."""

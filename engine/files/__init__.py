"""File operations that follow no link, lose nothing and last: what captures and restores stand on."""

"""Parts of methods that several of them share: one idea a file, no method known to any of them."""

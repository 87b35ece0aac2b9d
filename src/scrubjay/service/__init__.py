"""The service: a catalogue over HTTP, with a web page. It needs the extra `service`."""

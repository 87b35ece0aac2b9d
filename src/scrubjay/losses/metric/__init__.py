"""Metric losses, one file each: a recipe's `method.metric` is the file's name, with hyphens for underscores.

A file holds a function of its own name: `function(z, labels, ...) -> scalar` of unit embeddings (B, d) and labels
(B,) int64. Its further parameters are the keys of `method.metric_options`. Two things need no registration either:

* a parameter `proxies` receives one learned vector (C, d) per class of the session;
* a parameter that is named in the module's `FROM_METHOD` takes its default from the method's option of that name.
"""

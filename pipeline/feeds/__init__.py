"""⑥ Feeds: pure renderers, from the view of a release to bytes. They know no table and decide nothing."""

"""From a folder of films to one archive: data, train, evaluate, export, archive."""

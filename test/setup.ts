// What every test run shares: a warning about SQLite's youth would only hide real ones.
process.removeAllListeners('warning')

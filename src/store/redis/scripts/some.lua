-- Reads the papers of an owner that have these keys. ARGV: home and claim, then the keys.
-- Returns: of each its value, or nothing.
return redis.call('HMGET', papers_of(ARGV[1]), unpack(ARGV, 2))

-- The word at an id, whoever's it is, its tag behind it, and the highest version that replicas are known to have. ARGV: id.
local state = redis.call('HMGET', KEYS[1], 'depth', 'split', 'acked')
if not state[1] then
  return false
end
local high = struct.unpack('>I4', ARGV[1])
local bucket = bucket_of(high, tonumber(state[1]), tonumber(state[2]))
local value = redis.call('HGET', bucket, ARGV[1])
if not value and is_elsewhere(high, ARGV[1], bucket) then
  -- No word is so short.
  value = ''
end
return value and { string.sub(value, 1, 16), tonumber(state[3]) or 0 }

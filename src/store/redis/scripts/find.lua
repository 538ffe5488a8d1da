-- Finds a resident by home and claim. ARGV: home, claim.
-- Returns: the values from the home on, of which the last is the resident's or, where there is none, another's; 1 if it is
-- the resident's, 2 if the next is in a bucket of another depth; and the highest version that replicas are known to have.
local state = redis.call('HMGET', KEYS[1], 'depth', 'split', 'acked')
if not state[1] then
  return false
end
local high, low = struct.unpack('>I4I4', ARGV[1])
local values = {}
local acked = tonumber(state[3]) or 0
local bucket = bucket_of(high, tonumber(state[1]), tonumber(state[2]))
for steps = 0, 63 do
  local id = id_at(high, low, steps)
  local value = redis.call('HGET', bucket, id)
  if not value then
    return { values, is_elsewhere(high, id, bucket) and 2 or 0, acked }
  end
  values[#values + 1] = value
  if string.sub(value, 25, 40) == ARGV[2] then
    return { values, 1, acked }
  end
end
return redis.error_reply('CROWDED no free slot')

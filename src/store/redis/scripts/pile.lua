-- Where the papers of an owner are. A hash has them by key; a value is: time (6 bytes), kind (1), body. An owner of more than
-- SMALL papers also has an index: a sorted set of equal scores whose members are kind (1), time (6) and key (16), so that
-- Redis keeps them by kind, the oldest first. It is made when the first paper above SMALL comes, and goes with the last.
local SMALL = 128

local function papers_of(owner)
  return base .. 'p' .. owner
end

local function index_of(owner)
  return base .. 'i' .. owner
end

-- Six bytes of a time in milliseconds.
local function time_at(time)
  return struct.pack('>I2I4', math.floor(time / 2 ^ 32), time % 2 ^ 32)
end

-- `head` begins with the time.
local function member_of(kind, head, key)
  return string.char(kind) .. string.sub(head, 1, 6) .. key
end

-- The bounds of a kind in an index.
local function range_of(kind)
  return '[' .. string.char(kind), '(' .. string.char(kind + 1)
end

-- Calls a command with so many arguments that the stack of Lua holds them.
local function in_parts(command, key, arguments)
  for nth = 1, #arguments, 1000 do
    redis.call(command, key, unpack(arguments, nth, math.min(nth + 999, #arguments)))
  end
end

-- Makes the index of an owner of so many papers anew, or removes it where there must be none.
local function index_anew(papers, index, count)
  redis.call('UNLINK', index)
  if count <= SMALL then
    return
  end
  local found, members = redis.call('HGETALL', papers), {}
  for nth = 1, #found, 2 do
    members[#members + 1] = 0
    members[#members + 1] = member_of(string.byte(found[nth + 1], 7), found[nth + 1], found[nth])
  end
  in_parts('ZADD', index, members)
end

-- How many papers an owner has, and whether the index has as many where there must be one. What is not whole is not read: a
-- member that is missing would hide a paper.
local function count_of(owner)
  local count = redis.call('HLEN', papers_of(owner))
  local indexed = redis.call('ZCARD', index_of(owner))
  return count, indexed == (count > SMALL and count or 0)
end

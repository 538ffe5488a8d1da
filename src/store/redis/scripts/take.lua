-- Takes in changes of one partition: records, versions and the entry that tells of them, in one step.
--
-- ARGV: mark of the key ring, format, a new epoch should there be none, changes that the stream keeps, whether a replica is
-- waited for, the highest version that the caller's board knows of this partition, the highest that the caller knows to be on
-- replicas; what the caller makes of a plan, or nothing; then each change: home (8), claim (16), check (2), length of the standing (2), standing, profile. A length of
-- 0xffff is followed by a paper: how many an owner may have of its kind (2; 0xffff: no bound), key (16), time (6), kind (1), body; 0xfffe
-- stands alone and means that everything of this owner goes; 0xfffd is followed by a standing that replaces the one of the same reason and source.
-- Returns: a byte a change ('1' it changed something, '0' it did not, 'r' something else has its number or key, 'c' there is
-- no free slot); of every resident who
-- changed id, word, the reasons that were active in the course of this (1), the version that the word follows (7), and the tag
-- of these, as the stream's entry tells them; the number of the stream's last entry; what was done; and the rows of a plan.
--
-- Only nodes can make tags. So where records change, this is called twice. The first call changes nothing and returns 1 and a
-- plan: a row for each record that was read or is to change, which is the number of the change that first read it (2), 1 if it
-- is to change (1), id, the old word, the length of the tags and record behind it (4), the new word, reasons and version as
-- above (8), the length of the new record (4), the tags and the old record, the new record; nothing where there is none. The
-- second call brings of each record that changes id, old word, the tags behind it (16, or nothing but zeros), new word, tag of
-- the word, tag of the record, and tag of the stream's row (64). It returns 0; or 2, and has done nothing, where others wrote
-- meanwhile, or sealed the record anew, which leaves the word: then it all begins again. Where nothing of a record changes, the
-- first call does all and returns 0. Where a change meets what is no record or no paper, the call does nothing and returns 3 and the
-- number of the change (2).
--
-- Everything is read before anything is written: where a slot of the cluster is on its way to another server, reading
-- fails, and then nothing may have been written without its entry.
local LOAD, DEPTH_MAX = 48, 27
local VERSION_MAX = 2 ^ 42 - 1

local state = redis.call('HMGET', KEYS[1], 'epoch', 'ring', 'format', 'seq', 'depth', 'split', 'count', 'top', 'acked')
local top = math.max(tonumber(state[8]) or 0, tonumber(ARGV[6]))
local acked = math.max(tonumber(state[9]) or 0, tonumber(ARGV[7]))
local born = not state[1]
if born then
  if state[2] and state[2] ~= ARGV[1] then
    return redis.error_reply('FOREIGNRING made with another key ring')
  end
  state = { ARGV[3], ARGV[1], ARGV[2], 0, 0, 0, 0 }
elseif state[2] ~= ARGV[1] then
  return redis.error_reply('FOREIGNRING made with another key ring')
elseif state[3] ~= ARGV[2] then
  return redis.error_reply('FORMAT written by another version')
end
local seq, depth, split, count = tonumber(state[4]), tonumber(state[5]), tonumber(state[6]), tonumber(state[7])
redis.call('XLEN', base .. 's')
local time = redis.call('TIME')
-- Versions rise across every life of the store: a server that was emptied, restored or moved to a slower clock goes on above
-- what boards know. A clock that leapt leaves room: 2^38 more versions are eight years of a thousand writes a second.
local now = math.min(time[1] * 1000 + math.floor(time[2] / 1000), VERSION_MAX - 2 ^ 38)
if top >= VERSION_MAX then
  return redis.error_reply('VERSION no higher version is left')
end

-- What this call has seen, by id and in order, and what it changed, in order; the number of the change at hand.
local NONE = string.rep('\0', 8)
local seen, read, dirty = {}, {}, {}
local current = 0

local function see(high, low, steps)
  local id = id_at(high, low, steps)
  local one = seen[id]
  if one == nil then
    local bucket = bucket_of(high, depth, split)
    local value = redis.call('HGET', bucket, id)
    -- The call that makes a plan has looked already.
    if not value and ARGV[8] == '' and is_elsewhere(high, id, bucket) then
      error('a record in a bucket of another depth')
    end
    one = { id = id, bucket = bucket, by = current, old = NONE, rest = '' }
    read[#read + 1] = one
    if value then
      one.old, one.rest = string.sub(value, 1, 8), string.sub(value, 9)
      local upper, lower = struct.unpack('>I4I4', value)
      one.version = upper * 1024 + math.floor(lower / 0x400000)
      one.check = math.floor(lower / 256) % 0x4000
      one.record = string.sub(value, 25)
      one.held = lower % 256
    end
    seen[id] = one
  end
  return one
end

local function mark(one)
  if not one.dirty then
    one.dirty = true
    dirty[#dirty + 1] = one
  end
end

-- Where the standings of a record begin.
local function standings_at(record)
  return 19 + struct.unpack('>I2', record, 17)
end

-- Each standing: reason and activity (1), seq (8), at (8), until (4), region (4), length of the source (1), source.
local function said_before(record, standing)
  local at = standings_at(record)
  while at <= #record do
    local length = 26 + string.byte(record, at + 25)
    if string.byte(record, at) % 128 == string.byte(standing, 1) % 128
      and string.sub(record, at + 25, at + length - 1) == string.sub(standing, 26) then
      return at, length
    end
    at = at + length
  end
end

local function reasons_of(record)
  local bits, at = 0, standings_at(record)
  while at <= #record do
    local first = string.byte(record, at)
    if first >= 128 then
      bits = bit.bor(bits, bit.lshift(1, first - 128))
    end
    at = at + 26 + string.byte(record, at + 25)
  end
  return bits
end

local function is_newer(standing, record, at)
  local upper, lower = struct.unpack('>I4I4', standing, 2)
  local known_upper, known_lower = struct.unpack('>I4I4', record, at + 1)
  return upper > known_upper or upper == known_upper and lower > known_lower
end

-- Whether the standing at `at` is a later clear of what is said: a source that repeats what an operator has cleared since says no
-- more.
local function has_cleared(record, at, standing)
  local upper, lower = struct.unpack('>I4I4', standing, 10)
  local known_upper, known_lower = struct.unpack('>I4I4', record, at + 9)
  return string.byte(record, at) < 128 and string.byte(standing, 1) >= 128
    and (upper < known_upper or upper == known_upper and lower < known_lower)
end

local NO_DETAILS = string.rep('\0', 16)

-- Leaves of what was cleared the number alone: neither when, nor until when, nor where. Whether anything was left to go.
local function strip(one)
  local record, at, stripped = one.record, standings_at(one.record), false
  while at <= #record do
    if string.byte(record, at) < 128 and string.sub(record, at + 9, at + 24) ~= NO_DETAILS then
      record = string.sub(record, 1, at + 8) .. NO_DETAILS .. string.sub(record, at + 25)
      stripped = true
    end
    at = at + 26 + string.byte(record, at + 25)
  end
  one.record = record
  return stripped
end

-- Takes one thing that is said into a resident's record; what became of it, as the flags of changes say it. Without a profile
-- all of it goes.
local function take(one, claim, standing, profile)
  if not one.record then
    one.record = claim .. struct.pack('>I2', #profile) .. profile .. standing
    count = count + 1
    return '1'
  end
  local record = one.record
  if standing == '' then
    local rest = standings_at(record)
    if string.sub(record, 19, rest - 1) == profile then
      return '0'
    end
    one.record = string.sub(record, 1, 16) .. struct.pack('>I2', #profile) .. profile .. string.sub(record, rest)
    return '1'
  end
  local at, length = said_before(record, standing)
  if not at then
    record = record .. standing
  elseif is_newer(standing, record, at) then
    record = string.sub(record, 1, at - 1) .. standing .. string.sub(record, at + length)
  elseif string.sub(standing, 2, 9) == string.sub(record, at + 1, at + 8)
    and string.byte(standing, 1) ~= string.byte(record, at) and not has_cleared(record, at, standing) then
    return 'r'
  else
    return '0'
  end
  -- A reason in force needs the number, which an erasure took, or no export holds it.
  if string.byte(standing, 1) >= 128 and standings_at(record) == 19 then
    record = string.sub(record, 1, 16) .. struct.pack('>I2', #profile) .. profile .. string.sub(record, 19)
  end
  one.record = record
  return '1'
end

-- Puts a standing in the place of the one of the same reason and source, whatever their numbers; whether it changed anything.
local function replace(one, standing)
  local record = one.record
  local at, length = said_before(record, standing)
  if not at or string.sub(record, at, at + length - 1) == standing then
    return false
  end
  one.record = string.sub(record, 1, at - 1) .. standing .. string.sub(record, at + length)
  return true
end

-- The papers of an owner: how many there were, what goes and what comes.
local piles, touched = {}, {}

local function pile_of(owner)
  local pile = piles[owner]
  if not pile then
    pile = { key = papers_of(owner), index = index_of(owner), new = {}, gone = {}, kin = {} }
    pile.before, pile.whole = count_of(owner)
    pile.count, pile.indexed = pile.before, pile.whole and pile.before > SMALL
    piles[owner] = pile
    touched[#touched + 1] = pile
  end
  return pile
end

-- A paper's place among others: time, then key, as numbers, because strings are compared as the server's language has it.
-- `head` begins with the time (6 bytes).
local function place_of(key, head)
  local upper, lower = struct.unpack('>I2I4', head)
  local place = { struct.unpack('>I4I4I4I4', key) }
  place[5], place.key = upper * 2 ^ 32 + lower, key
  return place
end

local function is_older(one, other)
  if one[5] ~= other[5] then
    return one[5] < other[5]
  end
  for nth = 1, 4 do
    if one[nth] ~= other[nth] then
      return one[nth] < other[nth]
    end
  end
  return false
end

-- Takes the place at `at` down to where both below it are newer.
local function sink(heap, at)
  local one, size = heap[at], #heap
  while at * 2 <= size do
    local below = at * 2
    if below < size and is_older(heap[below + 1], heap[below]) then
      below = below + 1
    end
    if not is_older(heap[below], one) then
      break
    end
    heap[at], at = heap[below], below
  end
  heap[at] = one
end

-- Adds a place, and takes it up to where the one above is older.
local function add(heap, one)
  local at = #heap + 1
  while at > 1 do
    local above = math.floor(at / 2)
    if not is_older(one, heap[above]) then
      break
    end
    heap[at], at = heap[above], above
  end
  heap[at] = one
end

-- Reads the oldest paper of a kind that is in the index and was not removed yet.
local function read_first(pile, kin, kind)
  local from, to = range_of(kind)
  local member = redis.call('ZRANGEBYLEX', pile.index, from, to, 'LIMIT', kin.taken, 1)[1]
  kin.first = member and place_of(string.sub(member, 8), string.sub(member, 2, 7))
end

-- An owner's papers of a kind with a bound: how many, and the oldest of them. Those that an index holds stay there; the others
-- are in a heap, the oldest first.
local function kin_of(pile, kind)
  local kin = pile.kin[kind]
  if not kin then
    kin = { heap = {}, count = 0, taken = 0 }
    if pile.indexed then
      kin.count = redis.call('ZLEXCOUNT', pile.index, range_of(kind))
      read_first(pile, kin, kind)
    elseif pile.before > 0 then
      local found = redis.call('HGETALL', pile.key)
      for nth = 1, #found, 2 do
        if string.byte(found[nth + 1], 7) == kind then
          add(kin.heap, place_of(found[nth], found[nth + 1]))
          kin.count = kin.count + 1
        end
      end
    end
    for key, value in pairs(pile.new) do
      if string.byte(value, 7) == kind then
        add(kin.heap, place_of(key, value))
        kin.count = kin.count + 1
      end
    end
    pile.kin[kind] = kin
  end
  return kin
end

local function let_go(pile, kind, place)
  if pile.new[place.key] then
    pile.new[place.key] = nil
  else
    pile.gone[place.key] = member_of(kind, time_at(place[5]), place.key)
  end
  pile.count = pile.count - 1
end

-- Files one paper; what became of it, as the flags of changes say it. The same paper always has the same bytes.
local function file(pile, most, key, value)
  local known = pile.new[key] or pile.before > 0 and not pile.gone[key] and redis.call('HGET', pile.key, key)
  if known then
    return known == value and '0' or 'r'
  end
  local kind = string.byte(value, 7)
  if most ~= 0xffff and (pile.count >= most or pile.kin[kind]) then
    local kin, place = kin_of(pile, kind), place_of(key, value)
    local first = kin.first and (not kin.heap[1] or is_older(kin.first, kin.heap[1])) and kin.first
    local oldest = first or kin.heap[1]
    if kin.count < most then
      kin.count = kin.count + 1
      add(kin.heap, place)
    elseif not is_older(oldest, place) then
      return '0'
    else
      let_go(pile, kind, oldest)
      if first then
        kin.taken = kin.taken + 1
        read_first(pile, kin, kind)
        add(kin.heap, place)
      else
        kin.heap[1] = place
        sink(kin.heap, 1)
      end
    end
  end
  pile.new[key] = value
  pile.count = pile.count + 1
  return '1'
end

-- Everything of an owner goes; whether there was anything.
local function erase(pile)
  local some = pile.count > 0
  pile.new, pile.gone, pile.kin = {}, {}, {}
  pile.before, pile.count, pile.indexed, pile.erased = 0, 0, false, true
  return some
end

local function is_own(high, low, claim)
  for steps = 0, 63 do
    local one = see(high, low, steps)
    if not one.record then
      return nil
    elseif string.sub(one.record, 1, 16) == claim then
      return one
    end
  end
end

-- Takes in one change; its flag.
local function take_in(change)
  local high, low = struct.unpack('>I4I4', change)
  local claim = string.sub(change, 9, 24)
  local check, length = struct.unpack('>I2I2', change, 25)
  local standing, profile = string.sub(change, 29, 28 + length), string.sub(change, 29 + length)
  local flag, last = 'c', 63
  if length == 0xffff then
    local pile = pile_of(string.sub(change, 1, 24))
    flag, last = file(pile, struct.unpack('>I2', change, 29), string.sub(change, 31, 46), string.sub(change, 47)), -1
  elseif length == 0xfffe then
    flag, last = erase(pile_of(string.sub(change, 1, 24))) and '1' or '0', -1
    local one = is_own(high, low, claim)
    local had_profile = one and take(one, claim, '', '') == '1'
    if one and (strip(one) or had_profile) then
      flag = '1'
      mark(one)
      one.held = bit.bor(one.held or 0, reasons_of(one.record))
    end
  end
  if length == 0xfffd then
    flag, last = '0', -1
    local one = is_own(high, low, claim)
    if one and replace(one, string.sub(change, 29)) then
      flag = '1'
      mark(one)
      one.held = bit.bor(one.held or 0, reasons_of(one.record))
    end
  end
  for steps = 0, last do
    local one = see(high, low, steps)
    if not one.record or string.sub(one.record, 1, 16) == claim then
      if not one.record then
        one.check = check
        if steps > 0 then
          -- Displaced. If the one at the home shows the same check bits, its word says from now on to ask the store.
          local other = see(high, low, 0)
          if other.check == check then
            reasons_of(other.record)
            other.check = 0
            mark(other)
          end
        end
      end
      flag = take(one, claim, standing, profile)
      if flag == '1' then
        mark(one)
        one.held = bit.bor(one.held or 0, reasons_of(one.record))
      end
      break
    end
  end
  return flag
end

local flags = {}
local before = count
for nth = 9, #ARGV do
  current = nth - 9
  local read_well, flag = pcall(take_in, ARGV[nth])
  if not read_well then
    -- What Lua cannot parse, and a key of another type, are damage. Other errors of Redis are not of this change: a slot that moves, no
    -- memory. Versions of Redis hand them on as tables or as text.
    local why = type(flag) == 'table' and flag.err or tostring(flag)
    if not string.find(why, '^user_script:') and not string.find(why, 'WRONGTYPE') then
      return redis.error_reply(why)
    end
    return { '', '', seq, 3, struct.pack('>I2', current) }
  end
  flags[#flags + 1] = flag
end

-- In the order in which a plan has them.
dirty = {}
for _, one in ipairs(read) do
  if one.dirty then
    dirty[#dirty + 1] = one
  end
end

for _, one in ipairs(dirty) do
  local before = one.version or 0
  one.version = math.max(before + (one.version and 1 or 0), now, top + 1)
  one.lower = one.check * 256 + reasons_of(one.record)
  one.ground = struct.pack('>I4I4', (one.held or 0) * 0x1000000 + math.floor(before / 0x100000000), before % 0x100000000)
  one.before = before
end

-- The rows of a plan.
local function plan()
  local rows = {}
  for _, one in ipairs(read) do
    if one.dirty then
      local word = struct.pack('>I4I4', math.floor(one.version / 1024), one.version % 1024 * 0x400000 + one.lower)
      rows[#rows + 1] = struct.pack('>I2I1', one.by, 1) .. one.id .. one.old .. struct.pack('>I4', #one.rest) .. word .. one.ground
        .. struct.pack('>I4', #one.record) .. one.rest .. one.record
    elseif one.rest ~= '' then
      rows[#rows + 1] = struct.pack('>I2I1', one.by, 0) .. one.id .. one.old .. struct.pack('>I4', #one.rest) .. NONE .. NONE
        .. struct.pack('>I4', 0) .. one.rest
    end
  end
  return table.concat(rows)
end

local changed = {}
local made = ARGV[8]
if #dirty > 0 and made == '' then
  return { table.concat(flags), '', seq, 1, plan() }
end
if #dirty > 0 then
  if #made ~= 64 * #dirty then
    return { '', '', seq, 2, '' }
  end
  for nth, one in ipairs(dirty) do
    local own = string.sub(made, 64 * nth - 63, 64 * nth)
    local upper, lower = struct.unpack('>I4I4', own, 33)
    local version = upper * 1024 + math.floor(lower / 0x400000)
    local tags = one.rest == '' and NONE .. NONE or string.sub(one.rest, 1, 16)
    if string.sub(own, 1, 8) ~= one.id or string.sub(own, 9, 16) ~= one.old or string.sub(own, 17, 32) ~= tags or lower % 0x400000 ~= one.lower
      or version <= top or version <= one.before then
      return { '', '', seq, 2, '' }
    end
    one.version, one.word, one.tags = version, string.sub(own, 33, 40), string.sub(own, 41, 56)
    changed[nth] = one.id .. one.word .. one.ground .. string.sub(own, 57, 64)
  end
end

for _, one in ipairs(dirty) do
  top = math.max(top, one.version)
end

local filed = false
for _, pile in ipairs(touched) do
  local gone, new, left, members = {}, {}, {}, {}
  for key, member in pairs(pile.gone) do
    gone[#gone + 1] = key
    left[#left + 1] = member
  end
  for key, value in pairs(pile.new) do
    new[#new + 1] = key
    new[#new + 1] = value
    members[#members + 1] = 0
    members[#members + 1] = member_of(string.byte(value, 7), value, key)
  end
  filed = filed or pile.erased or #gone + #new > 0
  if pile.erased then
    redis.call('UNLINK', pile.key, pile.index)
  end
  in_parts('HDEL', pile.key, gone)
  in_parts('HSET', pile.key, new)
  if pile.indexed then
    in_parts('ZREM', pile.index, left)
    in_parts('ZADD', pile.index, members)
  elseif pile.count > SMALL or not pile.whole then
    index_anew(pile.key, pile.index, pile.count)
  end
end
if filed and born then
  -- Nobody is on record in this partition yet; whose it is, is.
  redis.call('HSET', KEYS[1], 'ring', state[2], 'format', state[3])
end

if #changed == 0 then
  if filed then
    return { table.concat(flags), '', seq, 0, plan() }
  end
  -- All of it was here. A write of our own, for a replica that has it has what came before it too.
  if ARGV[5] == '1' and not born then
    redis.call('HSET', KEYS[1], 'touched', now)
  end
  return { table.concat(flags), '', seq, 0, plan() }
end

seq = seq + 1
-- Entries of an import hold hundreds of changes, others one: what is kept is counted in changes.
local entries = math.max(100, math.floor(ARGV[4] / #changed))
redis.call('XADD', base .. 's', 'MAXLEN', '~', entries, '*', 'n', string.format('%d', seq), 'w', table.concat(changed))
for _, one in ipairs(dirty) do
  redis.call('HSET', one.bucket, one.id, one.word .. one.tags .. one.record)
end
redis.call('HSET', KEYS[1], 'epoch', state[1], 'ring', state[2], 'format', state[3], 'seq', string.format('%d', seq),
  'depth', depth, 'split', string.format('%d', split), 'count', string.format('%d', count),
  'top', string.format('%.0f', top), 'acked', string.format('%.0f', acked))

-- Room for those who came. What fails here is tried again by a later call: nothing leaves a bucket before it is in both.
local splits = math.ceil((count - before) / LOAD) + 1
while splits > 0 and depth < DEPTH_MAX and count > LOAD * (2 ^ depth + split) do
  splits = splits - 1
  local old = bucket_at(depth, split)
  local all = redis.pcall('HGETALL', old)
  if all.err then
    break
  end
  local halves = { {}, {} }
  for nth = 1, #all, 2 do
    -- What is no id is nobody's, and stays on the way.
    local half = halves[#all[nth] == 8 and prefix_of(struct.unpack('>I4', all[nth]), depth + 1) % 2 + 1 or 1]
    half[#half + 1] = all[nth]
    half[#half + 1] = all[nth + 1]
  end
  local failed = false
  for nth, half in ipairs(halves) do
    if #half > 0 then
      local done = redis.pcall('HSET', bucket_at(depth + 1, split * 2 + nth - 1), unpack(half))
      failed = failed or type(done) == 'table' and done.err
    end
  end
  if failed then
    break
  end
  redis.call('DEL', old)
  split = split + 1
  if split == 2 ^ depth then
    depth, split = depth + 1, 0
  end
  redis.call('HSET', KEYS[1], 'depth', depth, 'split', string.format('%d', split))
end
return { table.concat(flags), table.concat(changed), seq, 0, '' }

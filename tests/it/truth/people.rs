//! Those who meet the nodes: feeders, who repeat each event until it is acknowledged, and watchers, who look all the time.

use super::checker::{Answer, Said};
use super::life::{bits, set_by};
use super::line::Line;
use super::rng::Rng;
use super::world::{Before, NODES, Phase, Place, World, lock};
use crate::harness::{self, Ask, text};
use liangma::clock::Time;
use liangma::http::door::Door;
use serde_json::Value;
use std::sync::Mutex;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A watcher waits for a frozen node: what it says when it wakes is said too.
const PATIENCE: Duration = Duration::from_secs(10);

/// Residents of one feed at most.
const TOGETHER: u64 = 12;

const CODE_LIFE_USED: u64 = 300_000;

/// Longer than it takes to fill the board of a node whose store is slow to answer.
const CROWD_STAYS: Duration = Duration::from_millis(1_500);

/// A connection to a node's door, made again when the node is another process or the connection is lost.
struct Ear {
    node: usize,
    door: Door,
    held: Option<(Place, Line)>,
}

impl Ear {
    fn new(node: usize, door: Door) -> Ear {
        Ear {
            node,
            door,
            held: None,
        }
    }

    /// None while there is no such node.
    fn listen(&mut self, world: &World, patience: Duration) -> Option<(usize, &mut Line)> {
        let place = world.place(self.node)?;
        if self.held.as_ref().is_none_or(|(held, _)| *held != place) {
            self.held = None;
            let line = Line::to(place.doors[self.door as usize], patience).ok()?;
            self.held = Some((place, line));
        }
        let (place, line) = self.held.as_mut()?;
        Some((place.process, line))
    }
}

// ---- feeders

/// Feeds its share of the residents, every one's events in their order; ends when all is acknowledged in the last phase.
pub fn feed(world: &World, nth: usize, feeders: usize, mut rng: Rng) {
    let authority = world.seals().authority();
    let own: Vec<usize> = (nth..world.lives.len()).step_by(feeders).collect();
    let mut ears: [Ear; NODES] = std::array::from_fn(|node| Ear::new(node, Door::Ops));
    // Half of them send a little and wait for little, so that they are the first to be told yes when all others still wait.
    let (together, haste) = match nth % 2 {
        0 => (TOGETHER, 10),
        _ => (2, 80),
    };
    while !world.is_stopped() {
        // Before it looks at the phase: whoever waits for all to hold sees it.
        world.feeding.fetch_add(1, SeqCst);
        let phase = world.phase();
        if phase == Phase::Hold {
            world.feeding.fetch_sub(1, SeqCst);
            sleep(Duration::from_millis(5));
            continue;
        }
        let mut chosen = Vec::new();
        let mut lines = Vec::new();
        if phase == Phase::Finish {
            chosen.extend(&own);
        } else {
            for _ in 0..rng.within(1..=together) {
                let one = own[one_with_news(own.len(), &mut rng)];
                if !chosen.contains(&one) {
                    chosen.push(one);
                }
            }
        }
        chosen.retain(|one| {
            let new = (phase == Phase::Feed).then_some(&mut rng);
            let mut life = lock(&world.lives[*one]);
            let known = life.history.newest();
            let line = life.line(new);
            if let Some(line) = &line {
                if life.history.newest() > known {
                    world.sends(line);
                }
                lines.push(line.clone());
            }
            line.is_some()
        });
        if lines.is_empty() {
            return;
        }
        let node = rng.below(NODES);
        // Some do not wait for long: what they gave up may be applied later than what they send next.
        let patience = Duration::from_millis(match rng.percent(haste) {
            true => rng.within(20..=300),
            false => 3_000,
        });
        match post(world, &mut ears[node], patience, &authority, &lines) {
            true => {
                let now = Time::now().0;
                for one in &chosen {
                    lock(&world.lives[*one]).acknowledge(now);
                }
                world
                    .counts
                    .acknowledged
                    .fetch_add(lines.len() as u64, SeqCst);
            }
            false => {
                world.counts.repeated.fetch_add(1, SeqCst);
            }
        }
        world.feeding.fetch_sub(1, SeqCst);
        sleep(Duration::from_millis(rng.within(0..=40)));
    }
}

/// One of so many: the first have news all the time, the last seldom.
fn one_with_news(count: usize, rng: &mut Rng) -> usize {
    count * rng.below(1000) * rng.below(1000) / 1_000_000
}

/// Whether all lines were acknowledged.
fn post(
    world: &World,
    ear: &mut Ear,
    patience: Duration,
    authority: &str,
    lines: &[String],
) -> bool {
    let ask = Ask::post("/v1/feed", lines.join("\n")).bearer(authority);
    // Its time-outs are its own, so it is a connection of its own now and then.
    if patience < Duration::from_secs(1) {
        ear.held = None;
    }
    let node = ear.node;
    let Some((_, line)) = ear.listen(world, patience) else {
        return false;
    };
    let answer = line.ask(&ask.bytes());
    if patience < Duration::from_secs(1) || answer.is_err() {
        ear.held = None;
    }
    let Ok(answer) = answer else {
        return false;
    };
    if answer.status == 200 {
        let fed = answer.json();
        let counted = fed["applied"].as_u64().unwrap_or(0) + fed["unchanged"].as_u64().unwrap_or(0);
        if counted != lines.len() as u64 {
            world.lie(format!(
                "a feed of {} lines is answered by {fed}",
                lines.len()
            ));
        }
        return true;
    }
    if !is_refusal(&answer) {
        world.lie(format!("node {node} refuses a feed by {answer:?}"));
    }
    false
}

/// Feeds lines in their order, whatever it takes; false if the run was stopped.
pub fn feed_again(world: &World, lines: &[String], mut rng: Rng) -> bool {
    let authority = world.seals().authority();
    let mut ears: [Ear; NODES] = std::array::from_fn(|node| Ear::new(node, Door::Ops));
    for part in lines.chunks(300) {
        while !post(
            world,
            &mut ears[rng.below(NODES)],
            PATIENCE,
            &authority,
            part,
        ) {
            if world.is_stopped() {
                return false;
            }
            sleep(Duration::from_millis(20));
        }
    }
    true
}

/// Of the closed set of those that pass, and it says when to come back.
fn is_refusal(answer: &harness::Answer) -> bool {
    let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else {
        return false;
    };
    let code = body["code"].as_str().unwrap_or_default();
    let seconds = answer.header("retry-after").and_then(|s| s.parse().ok());
    let ms = body["retry_after_ms"].as_u64();
    answer.status == 503
        && ["busy", "upstream_busy", "warming", "draining"].contains(&code)
        && ms.is_some_and(|ms| seconds == Some(ms.div_ceil(1000)))
}

// ---- watchers

/// Codes to be scanned: those that nodes have shown, else some of our own sealing.
pub struct Codes(Vec<Mutex<(u64, String)>>);

impl Codes {
    pub fn new(world: &World) -> Codes {
        let none = || Mutex::new((0, String::new()));
        Codes(world.lives.iter().map(|_| none()).collect())
    }

    fn of(&self, world: &World, resident: usize) -> String {
        let mut kept = lock(&self.0[resident]);
        let now = Time::now();
        if now.0 > kept.0 + CODE_LIFE_USED {
            let person = lock(&world.lives[resident]).person.clone();
            *kept = (now.0, world.seals().code_of(&person, now));
        }
        kept.1.clone()
    }
}

/// Scans everybody at one node, again and again.
pub fn scan_all(world: &World, codes: &Codes, node: usize) {
    let scanner = world.seals().scanner();
    let mut ear = Ear::new(node, Door::Gate);
    while !world.is_stopped() {
        sleep(Duration::from_millis(8));
        let Some((process, line)) = ear.listen(world, PATIENCE) else {
            continue;
        };
        let mut body = String::new();
        for resident in 0..world.lives.len() {
            body.push_str(&codes.of(world, resident));
            body.push('\n');
        }
        let ask = Ask::post("/v1/scan/bulk", body).bearer(&scanner);
        let mut before = world.before(node, process).into_iter();
        let asked = Time::now().0;
        let Ok(answer) = line.ask(&ask.bytes()) else {
            world.counts.cut.fetch_add(1, SeqCst);
            ear.held = None;
            continue;
        };
        let answered = Time::now().0;
        if answer.status != 200 {
            refused(world, node, &answer);
            continue;
        }
        let mut told = 0;
        for (resident, line) in lines_of(&answer.body).enumerate() {
            told += 1;
            let Some(before) = before.next() else { break };
            let Ok(said) = serde_json::from_slice::<Value>(line) else {
                world.lie(format!("no JSON: {}", String::from_utf8_lossy(line)));
                return;
            };
            if let Some(error) = said["error"].as_str() {
                world.counts.refused.fetch_add(1, SeqCst);
                if error != "warming" {
                    world.lie(format!("node {node}, a line of a bulk scan: {said}"));
                }
                continue;
            }
            world.counts.bulk.fetch_add(1, SeqCst);
            judge(
                world,
                (node, process, "bulk"),
                resident,
                &said,
                (asked, answered),
                before,
            );
        }
        if told != world.lives.len() {
            world.lie(format!(
                "node {node}: {told} lines for {}",
                world.lives.len()
            ));
        }
    }
}

fn lines_of(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = body.split(|byte| *byte == b'\n');
    lines.filter(|line| !line.is_empty())
}

/// Sessions of all residents, in their order.
pub fn sessions(world: &World) -> Vec<String> {
    let lives = world.lives.iter();
    let people = lives.map(|life| lock(life).person.clone());
    people
        .map(|person| world.seals().session(&person))
        .collect()
}

/// Shows, scans and explains random residents at one node.
pub fn watch(world: &World, codes: &Codes, sessions: &[String], node: usize, mut rng: Rng) {
    let scanner = world.seals().scanner();
    let mut ears = [Door::Resident, Door::Gate, Door::Desk].map(|door| Ear::new(node, door));
    while !world.is_stopped() {
        sleep(Duration::from_millis(2));
        let resident = rng.below(world.lives.len());
        let session = &sessions[resident];
        let (nth, door, ask) = match rng.below(20) {
            0 => (2, "explain", Ask::get("/v1/status").bearer(session)),
            1..=8 => {
                let code = codes.of(world, resident);
                (1, "scan", Ask::post("/v1/scan", code).bearer(&scanner))
            }
            _ => (0, "show", Ask::get("/v1/code").bearer(session)),
        };
        look(world, codes, &mut ears[nth], door, resident, &ask);
    }
}

/// Comes when a node opens its doors, asks for those of whom there is most news while the board is filled, and goes.
pub fn crowd(world: &World, codes: &Codes, sessions: &[String], node: usize, mut rng: Rng) {
    let mut ear = Ear::new(node, Door::Resident);
    let mut met = 0;
    while !world.is_stopped() {
        sleep(Duration::from_millis(10));
        let Some(place) = world.place(node).filter(|place| place.process != met) else {
            continue;
        };
        met = place.process;
        let end = Instant::now() + CROWD_STAYS;
        while Instant::now() < end && !world.is_stopped() {
            let resident = one_with_news(world.lives.len(), &mut rng);
            let ask = Ask::get("/v1/code").bearer(&sessions[resident]);
            look(world, codes, &mut ear, "show", resident, &ask);
            sleep(Duration::from_millis(2));
        }
    }
}

/// Asks, and holds the answer against what was fed.
fn look(
    world: &World,
    codes: &Codes,
    ear: &mut Ear,
    door: &'static str,
    resident: usize,
    ask: &Ask,
) {
    let node = ear.node;
    let Some((process, line)) = ear.listen(world, PATIENCE) else {
        return;
    };
    let before = world.before_of(node, process, resident);
    let asked = Time::now();
    let Ok(answer) = line.ask(&ask.bytes()) else {
        world.counts.cut.fetch_add(1, SeqCst);
        ear.held = None;
        return;
    };
    let answered = Time::now().0;
    if answer.status != 200 {
        return refused(world, node, &answer);
    }
    let said = answer.json();
    let count = match door {
        "show" => &world.counts.shows,
        "scan" => &world.counts.scans,
        _ => &world.counts.explained,
    };
    count.fetch_add(1, SeqCst);
    if let Some(code) = said["code"].as_str() {
        *lock(&codes.0[resident]) = (asked.0, code.to_owned());
    }
    judge(
        world,
        (node, process, door),
        resident,
        &said,
        (asked.0, answered),
        before,
    );
}

fn refused(world: &World, node: usize, answer: &harness::Answer) {
    world.counts.refused.fetch_add(1, SeqCst);
    if !is_refusal(answer) {
        let body = text(&answer.body);
        world.lie(format!("node {node} refuses by {}: {body}", answer.status));
    }
}

fn judge(
    world: &World,
    from: (usize, usize, &'static str),
    resident: usize,
    said: &Value,
    (asked, answered): (u64, u64),
    before: Before,
) {
    let Some(answer) = read(said, from.2 == "explain", asked, answered) else {
        world.lie(format!("{} at node {}: {said}", from.2, from.0));
        return;
    };
    if answer.said == Said::TooOld {
        world.counts.too_old.fetch_add(1, SeqCst);
    }
    world.judge(from, resident, answer, before);
}

/// None if it contradicts itself.
fn read(said: &Value, explained: bool, asked: u64, answered: u64) -> Option<Answer> {
    let reasons = said["reasons"].as_array()?;
    let words = reasons.iter().map(|reason| reason["reason"].as_str());
    let bits = bits(words.collect::<Option<Vec<_>>>()?.into_iter())?;
    let status = said["status"].as_str();
    let told = match said["state"].as_str()? {
        "green" if bits == 0 && status == Some("00") => Said::Reasons(0),
        "red" if bits != 0 && status == Some("10") => Said::Reasons(bits),
        "unknown" if bits == 0 && status.is_none() => Said::Unknown,
        "too_old" if bits == 0 && status.is_none() => Said::TooOld,
        _ => return None,
    };
    let set_by = |reason: &Value| {
        let field = |name: &str| reason[name].as_str();
        set_by(field("reason")?, field("source")?, field("since")?)
    };
    let details = match told {
        // A reason that stays although the store has lost it has no details.
        Said::Reasons(_)
            if explained && reasons.iter().all(|reason| reason["source"].is_string()) =>
        {
            Some(reasons.iter().map(set_by).collect::<Option<_>>()?)
        }
        _ => None,
    };
    let as_of: jiff::Timestamp = said["as_of"].as_str()?.parse().ok()?;
    Some(Answer {
        asked,
        answered,
        said: told,
        details,
        as_of: u64::try_from(as_of.as_millisecond()).ok()?,
        stale: said["stale"].as_bool().unwrap_or(false),
        age: said["age_ms"].as_u64(),
    })
}

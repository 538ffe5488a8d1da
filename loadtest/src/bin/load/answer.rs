//! An HTTP/1.1 answer, as it comes in: its status, whether the connection stays, when to come back, and where it ends.
//! In: bytes, in any pieces. Out: a verdict. Pure; bodies are not kept. Only what servers of ours may send is understood.

use std::time::Duration;

/// Bytes of a head at most.
const HEAD_MAX: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub keeps: bool,
    pub retry_after: Option<Duration>,
    /// Lines of its body.
    pub lines: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    More,
    /// The bytes after it, so many, belong to the next one.
    Whole(Answer, usize),
    /// Not HTTP, or not as we know it.
    Nonsense,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Body(u64),
    /// Until the end of the connection.
    Rest,
    ChunkSize,
    Chunk(u64),
    Trailer,
}

/// Reads one answer after another.
pub struct Reader {
    state: State,
    /// A head or a line that has only begun.
    begun: Vec<u8>,
    answer: Answer,
}

const NOTHING: Answer = Answer {
    status: 0,
    keeps: true,
    retry_after: None,
    lines: 0,
};

impl Default for Reader {
    fn default() -> Reader {
        Reader {
            state: State::Head,
            begun: Vec::new(),
            answer: NOTHING,
        }
    }
}

impl Reader {
    pub fn reset(&mut self) {
        self.state = State::Head;
        self.begun.clear();
        self.answer = NOTHING;
    }

    /// Whether a byte of an answer has come.
    pub fn has_begun(&self) -> bool {
        self.state != State::Head || !self.begun.is_empty()
    }

    pub fn read(&mut self, bytes: &[u8]) -> Progress {
        let mut rest = bytes;
        loop {
            match self.state {
                State::Head => {
                    let known = self.begun.len();
                    let (head, used) = if known == 0 {
                        match memchr::memmem::find(rest, b"\r\n\r\n") {
                            Some(end) => (&rest[..end + 2], end + 4),
                            None => {
                                self.begun.extend_from_slice(rest);
                                return Progress::More;
                            }
                        }
                    } else {
                        self.begun.extend_from_slice(rest);
                        match memchr::memmem::find(&self.begun, b"\r\n\r\n") {
                            Some(end) => (&self.begun[..end + 2], end + 4 - known),
                            None if known > HEAD_MAX => return Progress::Nonsense,
                            None => return Progress::More,
                        }
                    };
                    let Some((answer, state)) = head_of(head) else {
                        return Progress::Nonsense;
                    };
                    rest = &rest[used..];
                    (self.answer, self.state) = (answer, state);
                    self.begun.clear();
                }
                State::Body(left) => {
                    let here = left.min(rest.len() as u64);
                    let (body, after) = rest.split_at(here as usize);
                    self.body(body);
                    if here < left {
                        self.state = State::Body(left - here);
                        return Progress::More;
                    }
                    return self.whole(after.len());
                }
                State::Rest => {
                    self.body(rest);
                    return Progress::More;
                }
                State::Chunk(left) => {
                    let here = left.min(rest.len() as u64);
                    let (body, after) = rest.split_at(here as usize);
                    // The last two bytes end the line, which is none of the body.
                    let text = here.min(left.saturating_sub(2)) as usize;
                    self.body(&body[..text]);
                    rest = after;
                    if here < left {
                        self.state = State::Chunk(left - here);
                        return Progress::More;
                    }
                    self.state = State::ChunkSize;
                }
                State::ChunkSize | State::Trailer => {
                    let Some(end) = memchr::memchr(b'\n', rest) else {
                        self.begun.extend_from_slice(rest);
                        return match self.begun.len() > HEAD_MAX {
                            true => Progress::Nonsense,
                            false => Progress::More,
                        };
                    };
                    self.begun.extend_from_slice(&rest[..end]);
                    rest = &rest[end + 1..];
                    let line = std::mem::take(&mut self.begun);
                    let line = line.trim_ascii();
                    if self.state == State::Trailer {
                        if line.is_empty() {
                            return self.whole(rest.len());
                        }
                        continue;
                    }
                    let size = str::from_utf8(line).ok();
                    let size = size.and_then(|line| line.split(';').next());
                    match size.and_then(|size| u64::from_str_radix(size.trim(), 16).ok()) {
                        None => return Progress::Nonsense,
                        Some(0) => self.state = State::Trailer,
                        Some(size) => self.state = State::Chunk(size.saturating_add(2)),
                    }
                }
            }
        }
    }

    /// The connection has ended: whole, where that is how an answer may end.
    pub fn end(&mut self) -> Option<Answer> {
        let answer = (self.state == State::Rest).then_some(self.answer);
        self.reset();
        answer
    }

    fn body(&mut self, body: &[u8]) {
        self.answer.lines += memchr::memchr_iter(b'\n', body).count() as u32;
        if matches!(self.answer.status, 503 | 429) {
            // The exact time, where the body is in one piece, as short ones are.
            self.answer.retry_after = exact(body).or(self.answer.retry_after);
        }
    }

    fn whole(&mut self, after: usize) -> Progress {
        let answer = self.answer;
        self.reset();
        Progress::Whole(answer, after)
    }
}

/// What a head says, and what follows it.
fn head_of(head: &[u8]) -> Option<(Answer, State)> {
    let mut answer = NOTHING;
    let status = head.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    answer.status = number(status)? as u16;
    answer.keeps = head.get(7) == Some(&b'1');
    let mut state = None;
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        // By the first letter: most lines are of no interest.
        match line.first().map(u8::to_ascii_lowercase) {
            Some(b'c') => {
                if let Some(value) = after(line, b"content-length:") {
                    state = Some(State::Body(number(value)?));
                } else if let Some(value) = after(line, b"connection:") {
                    answer.keeps = !value.eq_ignore_ascii_case(b"close");
                }
            }
            Some(b't') => {
                if let Some(value) = after(line, b"transfer-encoding:") {
                    if !value.eq_ignore_ascii_case(b"chunked") {
                        return None;
                    }
                    state = Some(State::ChunkSize);
                }
            }
            Some(b'r') => {
                let seconds = after(line, b"retry-after:").and_then(number);
                answer.retry_after = seconds.map(Duration::from_secs).or(answer.retry_after);
            }
            _ => {}
        }
    }
    if answer.status == 204 {
        state = Some(State::Body(0));
    }
    answer.keeps &= state.is_some();
    Some((answer, state.unwrap_or(State::Rest)))
}

fn after<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| rest.trim_ascii())
}

fn number(text: &[u8]) -> Option<u64> {
    str::from_utf8(text).ok()?.parse().ok()
}

fn exact(body: &[u8]) -> Option<Duration> {
    const NAME: &[u8] = b"\"retry_after_ms\":";
    let from = memchr::memmem::find(body, NAME)? + NAME.len();
    let digits = body[from..]
        .iter()
        .take_while(|b| b.is_ascii_digit())
        .count();
    number(&body[from..from + digits]).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: a/b\r\nContent-Length: 5\r\n\r\na\nb\nc";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\na\nb\n\r\nA;x=y\r\n012345678\n\r\n0\r\n\r\n";
    const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 8\r\nconnection: close\r\ncontent-length: 38\r\n\r\n{\"code\":\"busy\",\"retry_after_ms\":7300}\n";

    /// In one piece, and byte by byte: the same comes of it.
    fn read(text: &str) -> Progress {
        let whole = Reader::default().read(text.as_bytes());
        let mut reader = Reader::default();
        let mut last = Progress::More;
        for byte in text.as_bytes() {
            assert_eq!(last, Progress::More);
            last = reader.read(&[*byte]);
        }
        if !text.contains("retry_after") {
            assert_eq!(whole, last);
        }
        whole
    }

    #[test]
    fn finds_the_end_however_it_is_told() {
        let answer = |lines| Answer {
            status: 200,
            lines,
            ..NOTHING
        };
        assert_eq!(read(OK), Progress::Whole(answer(2), 0));
        assert_eq!(read(CHUNKED), Progress::Whole(answer(3), 0));
        let mut reader = Reader::default();
        assert_eq!(reader.read(b"HTTP/1.1 200 OK\r\n\r\nabc"), Progress::More);
        assert_eq!(
            reader.end(),
            Some(Answer {
                keeps: false,
                ..answer(0)
            })
        );
        assert_eq!(Reader::default().end(), None);
    }

    #[test]
    fn two_in_a_row_are_two() {
        let both = format!("{OK}{BUSY}");
        let mut reader = Reader::default();
        let Progress::Whole(_, left) = reader.read(both.as_bytes()) else {
            panic!("the first is whole");
        };
        assert_eq!(left, BUSY.len());
        let busy = Answer {
            status: 503,
            keeps: false,
            retry_after: Some(Duration::from_millis(7300)),
            lines: 1,
        };
        assert_eq!(
            reader.read(&both.as_bytes()[both.len() - left..]),
            Progress::Whole(busy, 0)
        );
    }

    #[test]
    fn the_header_tells_when_the_body_does_not() {
        let text = "HTTP/1.1 503 X\r\nRetry-After: 8\r\nContent-Length: 0\r\n\r\n";
        let Progress::Whole(answer, 0) = read(text) else {
            panic!("whole");
        };
        assert_eq!(answer.retry_after, Some(Duration::from_secs(8)));
    }

    #[test]
    fn nonsense_is_called_so() {
        for text in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ] {
            assert_eq!(
                Reader::default().read(text.as_bytes()),
                Progress::Nonsense,
                "{text}"
            );
        }
    }
}

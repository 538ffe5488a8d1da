//! Reasons for a colour, the colours, and the one table between them.

/// A reason of the notice for a red code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A confirmed case.
    Confirmed,
    /// A suspected case.
    Suspected,
    /// A close contact of a case.
    CloseContact,
    /// A stay in an area of high risk.
    HighRiskArea,
    /// Isolation at a central place.
    CentralIsolation,
    /// Isolation at home.
    HomeIsolation,
}

/// Colour of a code. Yellow is used in other provinces; no reason leads to it here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Colour {
    /// No reason is active.
    Green,
    /// A reason for observation is active.
    Yellow,
    /// A reason for isolation is active.
    Red,
}

impl Reason {
    /// All reasons, in the order of their bits.
    pub const ALL: [Reason; 6] = [
        Reason::Confirmed,
        Reason::Suspected,
        Reason::CloseContact,
        Reason::HighRiskArea,
        Reason::CentralIsolation,
        Reason::HomeIsolation,
    ];

    /// Returns the name in feeds and answers.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Confirmed => "confirmed",
            Reason::Suspected => "suspected",
            Reason::CloseContact => "close_contact",
            Reason::HighRiskArea => "high_risk_area",
            Reason::CentralIsolation => "central_isolation",
            Reason::HomeIsolation => "home_isolation",
        }
    }

    /// Returns the reason with a name; None for an unknown name.
    pub fn parse(word: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.word() == word)
    }

    /// Returns the reason with a number; None for an unknown number.
    pub fn from_bits(bits: u8) -> Option<Reason> {
        Reason::ALL.get(usize::from(bits)).copied()
    }

    /// Returns the colour of the reason: the only table from reasons to colours.
    pub fn colour(self) -> Colour {
        match self {
            Reason::Confirmed
            | Reason::Suspected
            | Reason::CloseContact
            | Reason::HighRiskArea
            | Reason::CentralIsolation
            | Reason::HomeIsolation => Colour::Red,
        }
    }
}

impl Colour {
    /// Returns the name in answers.
    pub fn word(self) -> &'static str {
        match self {
            Colour::Green => "green",
            Colour::Yellow => "yellow",
            Colour::Red => "red",
        }
    }

    /// Returns the national value. It is a string, because devices that read it as a number took `01` for `10`.
    pub fn national(self) -> &'static str {
        match self {
            Colour::Green => "00",
            Colour::Yellow => "01",
            Colour::Red => "10",
        }
    }
}

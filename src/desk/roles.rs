//! The table of acts: the roles that may do each, and where it is requested. Credentials of other roles get `not_permitted`.

use crate::seal::ring::TokenKind;
use crate::seal::{Caller, Session};

/// Role of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A person with a session of a log-in.
    Resident,
    /// A session by which a family member is shown.
    Member,
    /// A device at a gate.
    Scanner,
    /// An organisation that acts for its members, such as a school.
    Organisation,
    /// Staff of an office, for one division.
    Staff,
    /// An authority that feeds changes.
    Authority,
    /// An operator of the service.
    Operator,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 7] = [
        Role::Resident,
        Role::Member,
        Role::Scanner,
        Role::Organisation,
        Role::Staff,
        Role::Authority,
        Role::Operator,
    ];

    /// Returns the role of a caller whose credential was opened.
    pub fn of(caller: &Caller) -> Role {
        match caller {
            Caller::Session(session) => Role::of_session(session),
            Caller::Token(TokenKind::Session | TokenKind::Code | TokenKind::Grant, ..) => {
                Role::Resident
            }
            Caller::Token(TokenKind::Scanner, ..) => Role::Scanner,
            Caller::Token(TokenKind::Organisation, ..) => Role::Organisation,
            Caller::Token(TokenKind::Staff, ..) => Role::Staff,
            Caller::Token(TokenKind::Authority, ..) => Role::Authority,
            Caller::Token(TokenKind::Operator, ..) => Role::Operator,
        }
    }

    /// Returns the role of the holder of a session.
    pub fn of_session(session: &Session) -> Role {
        match session.member {
            Some(_) => Role::Member,
            None => Role::Resident,
        }
    }

    /// Returns the word that records and metrics use.
    pub fn word(self) -> &'static str {
        match self {
            Role::Resident => "resident",
            Role::Member => "member",
            Role::Scanner => "scanner",
            Role::Organisation => "organisation",
            Role::Staff => "staff",
            Role::Authority => "authority",
            Role::Operator => "operator",
        }
    }
}

/// Doors of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TableDoor {
    /// The desk door.
    Desk,
    /// The operations door.
    Ops,
}

/// The route of one act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActRoute {
    /// The act.
    pub act: Act,
    /// The door of the path.
    pub door: TableDoor,
    /// The method, in capitals. GET stands for HEAD as well.
    pub method: &'static str,
    /// The path; `{id}` stands for the id of a paper.
    pub path: &'static str,
}

/// Generates [`Act`], its words, its roles and [`ACT_ROUTES`] from one table.
macro_rules! acts {
    ($($(#[$doc:meta])* $act:ident $word:literal [$($role:ident),+] $(at $door:ident $($method:ident)+ $path:literal)*;)+) => {
        /// Acts of callers with credentials.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Act {
            $($(#[$doc])* $act,)+
        }

        impl Act {
            /// All acts, in the order of the table.
            pub const ALL: [Act; [$($word),+].len()] = [$(Act::$act),+];

            /// Returns the word in audit records.
            pub fn word(self) -> &'static str {
                match self {
                    $(Act::$act => $word,)+
                }
            }

            /// Returns the roles whose credentials permit the act.
            pub fn roles(self) -> &'static [Role] {
                match self {
                    $(Act::$act => &[$(Role::$role),+],)+
                }
            }
        }

        /// Routes of acts. Acts without a row have paths that `http::query` parses itself.
        pub const ACT_ROUTES: &[ActRoute] = &[
            $($($(ActRoute { act: Act::$act, door: TableDoor::$door, method: stringify!($method), path: $path },)+)*)+
        ];
    };
}

// Each row: the act, its word, the roles, the routes.
acts! {
    /// Shows the caller's code.
    Show "show" [Resident, Member];
    /// Reads the caller's status in detail.
    Explain "explain" [Resident, Member];
    /// Scans one code.
    Scan "scan" [Scanner];
    /// Scans many codes.
    ScanBulk "scan_bulk" [Scanner];
    /// Feeds changes of residents.
    Feed "feed" [Authority];
    /// Reads the caller's health records.
    ReadHealth "read_health" [Resident, Member] at Desk GET "/v1/health";
    /// Reads the caller's trip card.
    ReadTrip "read_trip" [Resident, Member] at Desk GET "/v1/trip";
    /// Changes or deletes a record. Every caller with credentials gets `record_unchangeable`.
    ChangeRecord "change_record" [Resident, Member, Organisation, Staff, Authority]
        at Desk PUT PATCH DELETE "/v1/health"
        at Desk PUT PATCH DELETE "/v1/health/{id}"
        at Desk PUT PATCH DELETE "/v1/declarations"
        at Desk PUT PATCH DELETE "/v1/declarations/{id}"
        at Desk PUT PATCH DELETE "/v1/entries"
        at Desk PUT PATCH DELETE "/v1/entries/{id}";
    /// Declares the health of one person.
    Declare "declare" [Resident, Member, Organisation] at Desk POST "/v1/declarations";
    /// Declares the health of an organisation's members.
    DeclareBulk "declare_bulk" [Organisation] at Desk POST "/v1/declarations/bulk";
    /// Reads the caller's declarations.
    ReadDeclarations "read_declarations" [Resident, Member] at Desk GET "/v1/declarations";
    /// Declares a journey to a division.
    DeclareEntry "declare_entry" [Resident, Member] at Desk POST "/v1/entries";
    /// Reads the caller's journeys; staff read those to their division.
    ReadEntries "read_entries" [Resident, Member, Staff] at Desk GET "/v1/entries";
    /// Adds a family member.
    AddMember "add_member" [Resident] at Desk POST "/v1/family";
    /// Lists family members.
    ListMembers "list_members" [Resident] at Desk GET "/v1/family";
    /// Removes a family member.
    RemoveMember "remove_member" [Resident] at Desk DELETE "/v1/family/{id}";
    /// Opens a new session for a family member's code.
    RenewMember "renew_member" [Resident] at Desk POST "/v1/family/{id}/session";
    /// Grants an organisation a code of the caller.
    Grant "grant" [Resident] at Desk POST "/v1/grants";
    /// Lists the caller's grants.
    ListGrants "list_grants" [Resident] at Desk GET "/v1/grants";
    /// Revokes a grant.
    RevokeGrant "revoke_grant" [Resident] at Desk DELETE "/v1/grants/{id}";
    /// Reads an organisation's display name, before a grant.
    ReadOrganisation "read_organisation" [Resident] at Desk GET "/v1/organisations/{id}";
    /// Reads an organisation's roster.
    ReadRoster "read_roster" [Organisation] at Desk GET "/v1/roster";
    /// Registers a person without a phone.
    Register "register" [Staff] at Desk POST "/v1/registrations";
    /// Finds a person whom staff registered.
    FindRegistered "find_registered" [Staff] at Desk POST "/v1/registrations/find";
    /// Appeals against a reason.
    Appeal "appeal" [Resident, Member] at Desk POST "/v1/appeals";
    /// Reads the caller's appeals; an authority reads all.
    ReadAppeals "read_appeals" [Resident, Member, Authority]
        at Desk GET "/v1/appeals"
        at Ops GET "/v1/appeals";
    /// Answers an appeal.
    AnswerAppeal "answer_appeal" [Authority] at Ops POST "/v1/appeals/{id}";
    /// Reads who looked at the records of the caller.
    ReadAccesses "read_accesses" [Resident] at Desk GET "/v1/accesses";
    /// Revokes credentials.
    Revoke "revoke" [Operator] at Ops POST "/v1/revocations";
    /// Clears a reason in the place of its source.
    Override "override" [Operator] at Ops POST "/v1/overrides";
    /// Reads the whole store, sealed as it is stored.
    Backup "backup" [Operator] at Ops POST "/v1/backup";
    /// Seals data at rest anew.
    Reseal "reseal" [Operator] at Ops POST "/v1/reseal";
    /// Ends the caller's sessions on all phones.
    EndSessions "end_sessions" [Resident] at Desk POST "/v1/sessions/revoke";
    /// Issues an offline code.
    IssueOffline "issue_offline" [Resident, Member];
    /// Revokes offline codes.
    RevokeOffline "revoke_offline" [Resident, Member, Staff] at Desk POST "/v1/offline-codes/revoke";
    /// Reads the settings in force and the build.
    ReadSettings "read_settings" [Operator];
}

impl Act {
    /// Returns whether credentials of a role permit the act.
    pub fn is_for(self, role: Role) -> bool {
        self.roles().contains(&role)
    }
}

//! Who may do what: one table. Whoever has genuine credentials of a role that is not in the row of an act is `not_permitted`.

use crate::seal::Caller;
use crate::seal::ring::TokenKind;

/// In what capacity somebody comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A person with a session of the own log-in.
    Resident,
    /// A session by which a family member is shown.
    Member,
    Scanner,
    Organisation,
    Staff,
    Authority,
    Operator,
}

impl Role {
    pub const ALL: [Role; 7] = [
        Role::Resident,
        Role::Member,
        Role::Scanner,
        Role::Organisation,
        Role::Staff,
        Role::Authority,
        Role::Operator,
    ];

    pub fn of(caller: &Caller) -> Role {
        match caller {
            Caller::Session(session) if session.member.is_some() => Role::Member,
            Caller::Session(_)
            | Caller::Token(TokenKind::Session | TokenKind::Code | TokenKind::Grant, ..) => {
                Role::Resident
            }
            Caller::Token(TokenKind::Scanner, ..) => Role::Scanner,
            Caller::Token(TokenKind::Organisation, ..) => Role::Organisation,
            Caller::Token(TokenKind::Staff, ..) => Role::Staff,
            Caller::Token(TokenKind::Authority, ..) => Role::Authority,
            Caller::Token(TokenKind::Operator, ..) => Role::Operator,
        }
    }

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

/// What can be done with credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    Show,
    Explain,
    Scan,
    ScanBulk,
    Feed,
    ReadHealth,
    ReadTrip,
    /// To change or delete a record, which nobody may: whoever has credentials is told so.
    ChangeRecord,
    Declare,
    DeclareBulk,
    ReadDeclarations,
    DeclareEntry,
    ReadEntries,
    AddMember,
    ListMembers,
    RemoveMember,
    RenewMember,
    Grant,
    ListGrants,
    RevokeGrant,
    ReadRoster,
    Register,
    FindRegistered,
    Appeal,
    ReadAppeals,
    AnswerAppeal,
    ReadAccesses,
    Revoke,
    /// To clear a reason in the place of its source.
    Override,
    /// To read all that the store holds, sealed as it rests.
    Backup,
    EndSessions,
    IssueOffline,
    RevokeOffline,
    /// To read the settings in force and the build.
    ReadSettings,
}

impl Act {
    pub const ALL: [Act; 34] = [
        Act::Show,
        Act::Explain,
        Act::Scan,
        Act::ScanBulk,
        Act::Feed,
        Act::ReadHealth,
        Act::ReadTrip,
        Act::ChangeRecord,
        Act::Declare,
        Act::DeclareBulk,
        Act::ReadDeclarations,
        Act::DeclareEntry,
        Act::ReadEntries,
        Act::AddMember,
        Act::ListMembers,
        Act::RemoveMember,
        Act::RenewMember,
        Act::Grant,
        Act::ListGrants,
        Act::RevokeGrant,
        Act::ReadRoster,
        Act::Register,
        Act::FindRegistered,
        Act::Appeal,
        Act::ReadAppeals,
        Act::AnswerAppeal,
        Act::ReadAccesses,
        Act::Revoke,
        Act::Override,
        Act::Backup,
        Act::EndSessions,
        Act::IssueOffline,
        Act::RevokeOffline,
        Act::ReadSettings,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Act::Show => "show",
            Act::Explain => "explain",
            Act::Scan => "scan",
            Act::ScanBulk => "scan_bulk",
            Act::Feed => "feed",
            Act::ReadHealth => "read_health",
            Act::ReadTrip => "read_trip",
            Act::ChangeRecord => "change_record",
            Act::Declare => "declare",
            Act::DeclareBulk => "declare_bulk",
            Act::ReadDeclarations => "read_declarations",
            Act::DeclareEntry => "declare_entry",
            Act::ReadEntries => "read_entries",
            Act::AddMember => "add_member",
            Act::ListMembers => "list_members",
            Act::RemoveMember => "remove_member",
            Act::RenewMember => "renew_member",
            Act::Grant => "grant",
            Act::ListGrants => "list_grants",
            Act::RevokeGrant => "revoke_grant",
            Act::ReadRoster => "read_roster",
            Act::Register => "register",
            Act::FindRegistered => "find_registered",
            Act::Appeal => "appeal",
            Act::ReadAppeals => "read_appeals",
            Act::AnswerAppeal => "answer_appeal",
            Act::ReadAccesses => "read_accesses",
            Act::Revoke => "revoke",
            Act::Override => "override",
            Act::Backup => "backup",
            Act::EndSessions => "end_sessions",
            Act::IssueOffline => "issue_offline",
            Act::RevokeOffline => "revoke_offline",
            Act::ReadSettings => "read_settings",
        }
    }

    /// The table.
    pub fn roles(self) -> &'static [Role] {
        use Role::*;
        match self {
            Act::Show | Act::Explain | Act::IssueOffline => &[Resident, Member],
            Act::Scan | Act::ScanBulk => &[Scanner],
            Act::Feed => &[Authority],
            Act::ReadHealth | Act::ReadTrip | Act::ReadDeclarations => &[Resident, Member],
            Act::ChangeRecord => &[Resident, Member, Organisation, Staff, Authority],
            Act::Declare => &[Resident, Member, Organisation],
            Act::DeclareBulk => &[Organisation],
            Act::DeclareEntry => &[Resident, Member],
            Act::ReadEntries => &[Resident, Member, Staff],
            Act::AddMember | Act::ListMembers | Act::RemoveMember | Act::RenewMember => &[Resident],
            Act::Grant | Act::ListGrants | Act::RevokeGrant => &[Resident],
            Act::ReadRoster => &[Organisation],
            Act::Register | Act::FindRegistered => &[Staff],
            Act::Appeal => &[Resident, Member],
            Act::ReadAppeals => &[Resident, Member, Authority],
            Act::AnswerAppeal => &[Authority],
            Act::ReadAccesses | Act::EndSessions => &[Resident],
            Act::RevokeOffline => &[Resident, Member, Staff],
            Act::Revoke | Act::Override | Act::ReadSettings | Act::Backup => &[Operator],
        }
    }

    pub fn is_for(self, role: Role) -> bool {
        self.roles().contains(&role)
    }
}

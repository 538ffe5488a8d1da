//! Texts of the six reasons in three languages: name, what to do, who clears it, whom to ask.

use super::reason::Reason;
use crate::language::Language;

impl Reason {
    /// Returns the name of the reason for people.
    pub fn text(self, language: Language) -> &'static str {
        use Language::*;
        match (self, language) {
            (Reason::Confirmed, Hans) => "确诊病例或核酸检测阳性",
            (Reason::Confirmed, Hant) => "確診病例或核酸檢測陽性",
            (Reason::Confirmed, En) => "Confirmed case or positive nucleic acid test",
            (Reason::Suspected, Hans) => "疑似病例",
            (Reason::Suspected, Hant) => "疑似病例",
            (Reason::Suspected, En) => "Suspected case",
            (Reason::CloseContact, Hans) => "密切接触者",
            (Reason::CloseContact, Hant) => "密切接觸者",
            (Reason::CloseContact, En) => "Close contact",
            (Reason::HighRiskArea, Hans) => "来自疫情高风险地区",
            (Reason::HighRiskArea, Hant) => "來自疫情高風險地區",
            (Reason::HighRiskArea, En) => "Arrival from a high-risk area",
            (Reason::CentralIsolation, Hans) => "集中隔离",
            (Reason::CentralIsolation, Hant) => "集中隔離",
            (Reason::CentralIsolation, En) => "Central isolation",
            (Reason::HomeIsolation, Hans) => "居家隔离",
            (Reason::HomeIsolation, Hant) => "居家隔離",
            (Reason::HomeIsolation, En) => "Home isolation",
        }
    }

    /// Returns the guidance for clearing it (解除指引): what to do, who clears it, whom to ask.
    pub fn guidance(self, language: Language) -> &'static str {
        use Language::*;
        match (self, language) {
            (Reason::Confirmed, Hans) => {
                "请留在收治医院配合治疗，不要自行外出。治愈出院并完成康复隔离后，由收治医院上报、当地卫生健康部门解除。如有疑问请拨打12345。"
            }
            (Reason::Confirmed, Hant) => {
                "請留在收治醫院配合治療，不要自行外出。治癒出院並完成康復隔離後，由收治醫院上報、當地衛生健康部門解除。如有疑問請致電12345。"
            }
            (Reason::Confirmed, En) => {
                "Stay at the hospital that treats you and do not go out on your own. After discharge and the isolation that follows, the hospital reports it and the local health authority clears the red code. Questions: call 12345."
            }
            (Reason::Suspected, Hans) => {
                "请立即到就近发热门诊就诊，佩戴口罩，不要乘坐公共交通工具。排除诊断后由接诊医院上报、当地卫生健康部门解除。如有疑问请拨打12345。"
            }
            (Reason::Suspected, Hant) => {
                "請立即到就近發熱門診就診，佩戴口罩，不要乘坐公共交通工具。排除診斷後由接診醫院上報、當地衛生健康部門解除。如有疑問請致電12345。"
            }
            (Reason::Suspected, En) => {
                "Go to the nearest fever clinic now, wear a mask and take no public transport. Once the diagnosis is ruled out, the clinic reports it and the local health authority clears the red code. Questions: call 12345."
            }
            (Reason::CloseContact, Hans) => {
                "请留在原地，主动联系所在社区，按要求接受医学观察和核酸检测。观察期满且检测阴性后，由当地疾控机构解除。如有疑问请拨打12345。"
            }
            (Reason::CloseContact, Hant) => {
                "請留在原地，主動聯繫所在社區，按要求接受醫學觀察和核酸檢測。觀察期滿且檢測陰性後，由當地疾控機構解除。如有疑問請致電12345。"
            }
            (Reason::CloseContact, En) => {
                "Stay where you are, contact your community, and follow medical observation and nucleic acid tests as told. After the observation and a negative test, the local disease control centre clears the red code. Questions: call 12345."
            }
            (Reason::HighRiskArea, Hans) => {
                "请主动向所在社区和单位报告行程，按要求隔离观察并进行核酸检测。期满且检测阴性后，由所在社区核实、当地防疫部门解除。如有疑问请拨打12345。"
            }
            (Reason::HighRiskArea, Hant) => {
                "請主動向所在社區和單位報告行程，按要求隔離觀察並進行核酸檢測。期滿且檢測陰性後，由所在社區核實、當地防疫部門解除。如有疑問請致電12345。"
            }
            (Reason::HighRiskArea, En) => {
                "Report your travel to your community and employer, isolate and take nucleic acid tests as told. When the time is over and the test negative, the community confirms it and the local epidemic control office clears the red code. Questions: call 12345."
            }
            (Reason::CentralIsolation, Hans) => {
                "请留在集中隔离点完成医学观察，配合采样检测。期满且检测阴性后，由隔离点出具解除医学观察告知书并上报解除。如有疑问请拨打12345。"
            }
            (Reason::CentralIsolation, Hant) => {
                "請留在集中隔離點完成醫學觀察，配合採樣檢測。期滿且檢測陰性後，由隔離點出具解除醫學觀察告知書並上報解除。如有疑問請致電12345。"
            }
            (Reason::CentralIsolation, En) => {
                "Stay at the isolation site until the observation ends, and give the samples asked for. When the time is over and the test negative, the site issues the notice of release and reports it. Questions: call 12345."
            }
            (Reason::HomeIsolation, Hans) => {
                "请留在家中单独居住，不要外出，每日向社区报告体温。期满且检测阴性后，由所在社区核实并上报解除。如有疑问请拨打12345。"
            }
            (Reason::HomeIsolation, Hant) => {
                "請留在家中單獨居住，不要外出，每日向社區報告體溫。期滿且檢測陰性後，由所在社區核實並上報解除。如有疑問請致電12345。"
            }
            (Reason::HomeIsolation, En) => {
                "Stay at home in a room of your own, do not go out, and report your temperature to the community every day. When the time is over and the test negative, the community confirms and reports it, and the red code is cleared. Questions: call 12345."
            }
        }
    }
}

/// Returns the text that says where to object to a status.
pub fn appeal(language: Language) -> &'static str {
    match language {
        Language::Hans => {
            "如认为状态有误，请联系赋码单位或所在社区核实，或拨打12345申诉；健康码不是通行的唯一凭证。"
        }
        Language::Hant => {
            "如認為狀態有誤，請聯繫賦碼單位或所在社區核實，或致電12345申訴；健康碼不是通行的唯一憑證。"
        }
        Language::En => {
            "If you think that the status is wrong, ask the authority named here or your community to check it, or appeal by calling 12345. A health code is not the only accepted proof."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guidance_names_the_line_to_call_and_needs_no_escaping() {
        for reason in Reason::ALL {
            for language in Language::ALL {
                assert!(reason.guidance(language).contains("12345"));
                for text in [
                    reason.text(language),
                    reason.guidance(language),
                    appeal(language),
                ] {
                    assert!(!text.contains(['"', '\\', '\n']));
                }
            }
        }
    }
}

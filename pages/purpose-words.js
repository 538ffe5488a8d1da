// Purposes for which staff look somebody up: chosen by staff, and told to the person.

const PURPOSES = ["gate-check", "reception", "medical", "transport", "follow-up", "school"];

learn({
  "zh-Hans": { "purpose_gate-check": "入口查验", purpose_reception: "社区接待", purpose_medical: "就医", purpose_transport: "乘坐交通工具", "purpose_follow-up": "隔离随访", purpose_school: "入学返校" },
  "zh-Hant": { "purpose_gate-check": "入口查驗", purpose_reception: "社區接待", purpose_medical: "就醫", purpose_transport: "乘坐交通工具", "purpose_follow-up": "隔離隨訪", purpose_school: "入學返校" },
  en: { "purpose_gate-check": "check at an entrance", purpose_reception: "community reception", purpose_medical: "medical care", purpose_transport: "transport", "purpose_follow-up": "isolation follow-up", purpose_school: "school" },
});

// Divisions of GB/T 2260 by name: the provinces by their first two digits, the cities of Guangdong by their first four.
// What has no name here is told by its code.

const DIVISIONS =
  "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 81 82 " +
  "4401 4402 4403 4404 4405 4406 4407 4408 4409 4412 4413 4414 4415 4416 4417 4418 4419 4420 4451 4452 4453";
const DIVISION_NAMES = {
  "zh-Hans":
    "北京 天津 河北 山西 内蒙古 辽宁 吉林 黑龙江 上海 江苏 浙江 安徽 福建 江西 山东 河南 湖北 湖南 广东 广西 海南 重庆 四川 贵州 云南 西藏 陕西 甘肃 青海 宁夏 新疆 台湾 香港 澳门 " +
    "广州 韶关 深圳 珠海 汕头 佛山 江门 湛江 茂名 肇庆 惠州 梅州 汕尾 河源 阳江 清远 东莞 中山 潮州 揭阳 云浮",
  "zh-Hant":
    "北京 天津 河北 山西 內蒙古 遼寧 吉林 黑龍江 上海 江蘇 浙江 安徽 福建 江西 山東 河南 湖北 湖南 廣東 廣西 海南 重慶 四川 貴州 雲南 西藏 陝西 甘肅 青海 寧夏 新疆 台灣 香港 澳門 " +
    "廣州 韶關 深圳 珠海 汕頭 佛山 江門 湛江 茂名 肇慶 惠州 梅州 汕尾 河源 陽江 清遠 東莞 中山 潮州 揭陽 雲浮",
  en:
    "Beijing Tianjin Hebei Shanxi Inner_Mongolia Liaoning Jilin Heilongjiang Shanghai Jiangsu Zhejiang Anhui Fujian Jiangxi Shandong Henan Hubei Hunan Guangdong Guangxi Hainan Chongqing Sichuan Guizhou Yunnan Tibet Shaanxi Gansu Qinghai Ningxia Xinjiang Taiwan Hong_Kong Macao " +
    "Guangzhou Shaoguan Shenzhen Zhuhai Shantou Foshan Jiangmen Zhanjiang Maoming Zhaoqing Huizhou Meizhou Shanwei Heyuan Yangjiang Qingyuan Dongguan Zhongshan Chaozhou Jieyang Yunfu",
};

// 440100: 广东 广州; 420100: 湖北 420100.
function division(code) {
  const codes = DIVISIONS.split(" ");
  const names = DIVISION_NAMES[language].split(" ");
  const named = (digits) => (names[codes.indexOf(code.slice(0, digits))] || "").replace("_", " ");
  const [province, city] = [named(2), named(4)];
  const whole = city ? "00" : province ? "0000" : "";
  return [province, city, whole && code.slice(-whole.length) === whole ? "" : code].filter(Boolean).join(" ");
}

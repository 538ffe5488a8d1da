// Tables of spreadsheets: CSV read and written. Pure, but for the file that is offered to be saved.

// The text of a file: UTF-8, or as spreadsheets in China write it.
function textOf(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onerror = reject;
    reader.onload = () => {
      try {
        resolve(new TextDecoder("utf-8", { fatal: true }).decode(reader.result));
      } catch (garbled) {
        resolve(new TextDecoder("gb18030").decode(reader.result));
      }
    };
    reader.readAsArrayBuffer(file);
  });
}

// Rows of cells. A cell in quotes may have commas, line ends, and quotes twice. Blank lines are left out.
function rowsOf(text) {
  const rows = [];
  let cells = [];
  let cell = "";
  let quoted = false;
  const endCell = () => {
    cells.push(cell.trim());
    cell = "";
  };
  const endRow = () => {
    endCell();
    if (cells.some(Boolean)) rows.push(cells);
    cells = [];
  };
  const whole = text.replace(/^\ufeff/, "");
  for (let at = 0; at < whole.length; at += 1) {
    const letter = whole[at];
    if (quoted) {
      if (letter !== '"') cell += letter;
      else if (whole[at + 1] === '"') {
        cell += '"';
        at += 1;
      } else quoted = false;
    } else if (letter === '"' && !cell.trim()) {
      cell = "";
      quoted = true;
    } else if (letter === "," || letter === "\t" || letter === ";") endCell();
    else if (letter === "\n") endRow();
    else if (letter !== "\r") cell += letter;
  }
  endRow();
  return rows;
}

function csvOf(rows) {
  // A cell that begins like a formula is text to a spreadsheet too.
  const cell = (words) => '"' + (/^[=+@\t\r-]/.test(words) ? "'" : "") + String(words).replace(/"/g, '""') + '"';
  return "\ufeff" + rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

function save(name, rows) {
  const file = new Blob([csvOf(rows)], { type: "text/csv;charset=utf-8" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name + "-" + inChina(Date.now()).replace(/[-: ]/g, "") + ".csv";
  document.body.appendChild(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// The letters of a code, of which it has many.
const A_CODE = /^[A-Z2-7]{60,}$/i;

// The column with the most cells of a form; null where none has any.
function columnOf(rows, form) {
  const counts = [];
  for (const cells of rows) {
    cells.forEach((cell, nth) => {
      if (form.test(cell)) counts[nth] = (counts[nth] || 0) + 1;
    });
  }
  let best = null;
  counts.forEach((count, nth) => {
    if (best === null || count > counts[best]) best = nth;
  });
  return best;
}

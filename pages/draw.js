// Draws a QR code on a canvas, black on white, whatever the colours around it.

function drawCode(canvas, words, scale) {
  const symbol = qr(words) || { size: 0 }; // longer than the contract allows: nothing is drawn, least of all the one before
  const quiet = 2; // and the card around it
  canvas.width = canvas.height = (symbol.size + 2 * quiet) * scale;
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#ffffff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = "#000000";
  for (let y = 0; y < symbol.size; y += 1) {
    for (let x = 0; x < symbol.size; x += 1) {
      if (symbol.dark(x, y)) pen.fillRect((x + quiet) * scale, (y + quiet) * scale, scale, scale);
    }
  }
}

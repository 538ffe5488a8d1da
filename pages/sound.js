// A verdict as a sound and a shake, told apart without looking. Browsers give no sound before the page was touched once.

const SOUNDS = {
  green: [[880, 0.12]],
  check: [[880, 0.1], [620, 0.1], [880, 0.1]],
  yellow: [[660, 0.14], [660, 0.14]],
  red: [[220, 0.22], [220, 0.22], [220, 0.3]],
  other: [[440, 0.12], [330, 0.2]],
};

const sound = { on: true, context: null };

function wakeSound() {
  const Context = window.AudioContext || window.webkitAudioContext;
  if (!sound.context && Context) sound.context = new Context();
  if (sound.context && sound.context.state === "suspended") sound.context.resume();
}

function sing(state) {
  const notes = SOUNDS[state] || SOUNDS.other;
  if (navigator.vibrate) navigator.vibrate(state === "green" ? 60 : [120, 80, 120]);
  if (!sound.on || !sound.context || sound.context.state !== "running") return;
  let at = sound.context.currentTime;
  for (const [pitch, length] of notes) {
    const tone = sound.context.createOscillator();
    const volume = sound.context.createGain();
    tone.type = state === "red" ? "square" : "sine";
    tone.frequency.value = pitch;
    volume.gain.setValueAtTime(0.3, at);
    volume.gain.linearRampToValueAtTime(0, at + length);
    tone.connect(volume);
    volume.connect(sound.context.destination);
    tone.start(at);
    tone.stop(at + length);
    at += length + 0.06;
  }
}

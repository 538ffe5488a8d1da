// Codes from a camera: the browser's own detector where it has one for QR, else a decoder that is loaded then. In: a video
// element. Out: a call a code that is seen, again for as long as it is held there; and one when the camera is unplugged.

const LOOK_EVERY = 120;
const LOOK_WIDTH = 720;

const camera = { stream: null, round: 0, awake: null };

// `device` is the lens to take, where one was chosen.
function openCamera(video, seen, lost, device) {
  closeCamera(video);
  const round = camera.round;
  if (!navigator.mediaDevices || !navigator.mediaDevices.getUserMedia) {
    return Promise.reject(new Error(window.isSecureContext === false ? "camera_secure" : "camera_none"));
  }
  const lens = device ? { deviceId: { exact: device } } : { facingMode: "environment" };
  const wanted = { audio: false, video: Object.assign({ width: { ideal: 1280 } }, lens) };
  const opened = navigator.mediaDevices.getUserMedia(wanted).catch(() => {
    throw new Error("camera_none");
  });
  return Promise.all([opened, decoder()]).then(([stream, decode]) => {
    if (round !== camera.round) return stream.getTracks().forEach((track) => track.stop());
    camera.stream = stream;
    for (const track of stream.getTracks()) track.addEventListener("ended", lost);
    video.srcObject = stream;
    stayAwake();
    const look = () => {
      if (round !== camera.round) return;
      const next = () => setTimeout(look, LOOK_EVERY);
      if (video.readyState < 2 || document.hidden) return next();
      const decoded = Promise.resolve(video).then(decode);
      // A frame that cannot be read is passed over.
      decoded.then((code) => {
        if (code && round === camera.round) seen(code);
      }).catch(() => {}).then(next);
    };
    return video.play().then(look);
  });
}

function closeCamera(video) {
  camera.round += 1;
  if (camera.stream) camera.stream.getTracks().forEach((track) => track.stop());
  camera.stream = null;
  if (camera.awake) camera.awake.release();
  camera.awake = null;
  video.srcObject = null;
}

function track() {
  return camera.stream ? camera.stream.getVideoTracks()[0] : null;
}

function hasTorch() {
  const now = track();
  return Boolean(now && now.getCapabilities && now.getCapabilities().torch);
}

// Returns a promise of whether it is lit.
function lightTorch(on) {
  const now = track();
  return now ? now.applyConstraints({ advanced: [{ torch: on }] }).then(() => on, () => false) : Promise.resolve(false);
}

function lenses() {
  return navigator.mediaDevices.enumerateDevices().then((all) => all.filter((one) => one.kind === "videoinput").map((one) => one.deviceId), () => []);
}

function lensNow() {
  const now = track();
  return now ? now.getSettings().deviceId : "";
}

// The screen stays on while the camera is; the browser takes that back whenever the page is hidden.
function stayAwake() {
  if (!camera.stream || document.hidden || !navigator.wakeLock) return;
  navigator.wakeLock.request("screen").then((lock) => {
    if (!camera.stream) return lock.release();
    camera.awake = lock;
  }, () => {});
}

// A function from a video to a promise of the code in it, or nothing.
function decoder() {
  const Detector = window.BarcodeDetector;
  const formats = Detector ? Detector.getSupportedFormats().catch(() => []) : Promise.resolve([]);
  return formats.then((known) => {
    if (known.indexOf("qr_code") < 0) return load("{jsQR.js}").then(() => decodeByHand(window.jsQR));
    const detector = new Detector({ formats: ["qr_code"] });
    return (video) => detector.detect(video).then((found) => (found.length ? found[0].rawValue : ""));
  });
}

function decodeByHand(decode) {
  const canvas = document.createElement("canvas");
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  return (video) => {
    const scale = Math.min(1, LOOK_WIDTH / video.videoWidth);
    canvas.width = Math.round(video.videoWidth * scale);
    canvas.height = Math.round(video.videoHeight * scale);
    pen.drawImage(video, 0, 0, canvas.width, canvas.height);
    const frame = pen.getImageData(0, 0, canvas.width, canvas.height);
    const found = decode(frame.data, frame.width, frame.height, { inversionAttempts: "dontInvert" });
    return Promise.resolve(found ? found.data : "");
  };
}

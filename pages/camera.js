// Codes from a camera: the browser's own detector where it has one for QR, else a decoder that is loaded then. In: a video
// element. Out: a call a code that is seen, again for as long as it is held there; and one when the camera is unplugged.

const LOOK_EVERY = 120;
const LOOK_WIDTH = 720;

const camera = { stream: null, round: 0 };

function openCamera(video, seen, lost) {
  closeCamera(video);
  const round = camera.round;
  if (!navigator.mediaDevices || !navigator.mediaDevices.getUserMedia) {
    return Promise.reject(new Error(window.isSecureContext === false ? "camera_secure" : "camera_none"));
  }
  const wanted = { audio: false, video: { facingMode: "environment", width: { ideal: 1280 } } };
  const opened = navigator.mediaDevices.getUserMedia(wanted).catch(() => {
    throw new Error("camera_none");
  });
  return Promise.all([opened, decoder()]).then(([stream, decode]) => {
    if (round !== camera.round) return stream.getTracks().forEach((track) => track.stop());
    camera.stream = stream;
    for (const track of stream.getTracks()) track.addEventListener("ended", lost);
    video.srcObject = stream;
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
  video.srcObject = null;
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

function load(address) {
  if (window.jsQR) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = address;
    script.onload = resolve;
    script.onerror = () => reject(new Error("offline"));
    document.head.appendChild(script);
  });
}

// What kind of device the page runs on, and how its user solves a problem there. Pure.

/** deviceOf returns "iphone" (or iPad), "android", "mac", "windows" or "other", from what the browser says of itself. */
export function deviceOf({ userAgent = "", maxTouchPoints = 0 }) {
  if (/iPhone|iPad|iPod/.test(userAgent)) return "iphone";
  if (/Android/.test(userAgent)) return "android";
  // An iPad says that it is a Mac, but Macs have no touch screens.
  if (/Macintosh/.test(userAgent)) return maxTouchPoints > 1 ? "iphone" : "mac";
  return /Windows/.test(userAgent) ? "windows" : "other";
}

/** isHandheld reports whether a device is a phone or a tablet. */
export const isHandheld = (device) => device === "iphone" || device === "android";

const HEIC = {
  iphone: "Take a screenshot of the photo and choose that. For new photos, choose “Most Compatible” in Settings, Camera, Formats.",
  android: "Share or export the photo as a JPEG and choose that. For new photos, turn off HEIF in the camera’s settings.",
  mac: "Open the photo in Preview, export it as a JPEG, and choose that.",
  windows: "Open the photo in Photos, save it as a JPEG, and choose that.",
  other: "Convert the photo to a JPEG and choose that.",
};

const SMALLER = "Choose a smaller photo, such as a screenshot of it.";

const HANDHELD = {
  TOO_MANY_PIXELS: SMALLER,
  TOO_MANY_BYTES: SMALLER,
  DEADLINE: "Try again, choose a smaller photo, or raise the smallest face.",
};

/** remedyOf returns what to do about a ServerError on a device. */
export function remedyOf({ reason, message, remedy, unreachable }, device) {
  if (reason === "UNSUPPORTED_FORMAT" && /\bHEI[CF]\b/.test(message)) return HEIC[device];
  if (unreachable && isHandheld(device)) return "Check that you are online, and in the same network as the server. This page reconnects automatically.";
  return (isHandheld(device) && HANDHELD[reason]) || remedy;
}

/** clipboardDenied says what to do when the browser does not allow access to the clipboard. */
export function clipboardDenied(device) {
  if (isHandheld(device)) return "The browser did not allow access to the clipboard. Choose the image instead.";
  return `The browser did not allow access to the clipboard. Press ${device === "mac" ? "⌘V" : "Ctrl+V"} instead.`;
}

/** cameraDenied says what to do when the camera was denied. */
export function cameraDenied(device) {
  const where = {
    iphone: "Allow it in Settings, Apps, Safari, Camera, and reload the page.",
    android: "Touch the symbol beside the address, then Permissions, allow the camera, and try again.",
  };
  return `Access to the camera was denied. ${where[device] ?? "Click the symbol beside the address, allow the camera, and try again."}`;
}

/** cameraInsecure says what to do on a page without HTTPS, where browsers do not offer the camera. */
export const cameraInsecure = (device) =>
  isHandheld(device)
    ? "Browsers allow the camera only on HTTPS pages. Choose images instead: this device then offers its camera. The server’s operator turns HTTPS on with --tls-cert."
    : "Browsers allow the camera only on HTTPS pages and on localhost. Start the server with --tls-cert and --tls-key, or choose an image.";

// Encodes images and calls the server, so that the page's own thread stays free to draw.
//
// Messages in: {id, url, key, blob, request} starts a call: key is an API key or "", and request
// the message in JSON, to which the image of the blob is added as rawData; {id, cancel: true} cancels it. Message out, one for
// each call: {id, status, retryAfter, requestID, answer, text, encode, roundTrip}, where answer
// is the body if it is JSON, and text the start of it if not; or {id, failed, text}, where
// failed is the name of the error. encode and roundTrip are in milliseconds.
const running = new Map();

self.onmessage = async ({ data }) => {
  if (data.cancel) {
    running.get(data.id)?.abort();
    return;
  }
  const { id, url, key, blob, request } = data;
  const abort = new AbortController();
  running.set(id, abort);
  try {
    const began = performance.now();
    let body = JSON.stringify(request);
    if (blob) {
      // A Blob of parts does not copy the long text of the image.
      const rawData = await base64(blob);
      const rest = body.slice(1);
      body = new Blob(['{"rawData":"', rawData, rest === "}" ? '"' : '",', rest]);
    }
    const encoded = performance.now();
    const response = await fetch(url, {
      method: "POST",
      // A proxy may use Authorization for itself.
      headers: { "Content-Type": "application/json", ...(key ? { "X-Api-Key": key } : {}) },
      body,
      signal: abort.signal,
      cache: "no-store",
    });
    const text = await response.text();
    const ended = performance.now();
    let answer = null;
    try {
      answer = JSON.parse(text);
    } catch {
      // A proxy may answer with something else than JSON.
    }
    self.postMessage({
      id,
      status: response.status,
      retryAfter: response.headers.get("Retry-After"),
      requestID: response.headers.get("X-Request-Id"),
      answer,
      text: answer ? "" : text.slice(0, 500),
      encode: encoded - began,
      roundTrip: ended - encoded,
    });
  } catch (error) {
    self.postMessage({ id, failed: error.name, text: String(error.message ?? error) });
  } finally {
    running.delete(id);
  }
};

async function base64(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  if (bytes.toBase64) return bytes.toBase64();
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(new Blob([bytes]));
  });
  return url.slice(url.indexOf(",") + 1);
}

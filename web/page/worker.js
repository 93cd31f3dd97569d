// Encodes pictures and calls the server, away from the thread that draws.
// Messages in: {id, blob, options} or {id, cancel: true}. Out: {id, status,
// headers, body, encode, roundTrip} or {id, failed}; times in milliseconds.
const running = new Map();

self.onmessage = async ({ data }) => {
  if (data.cancel) {
    running.get(data.id)?.abort();
    return;
  }
  const { id, url, blob, request } = data;
  const abort = new AbortController();
  running.set(id, abort);
  try {
    const began = performance.now();
    let body = JSON.stringify(request);
    if (blob) {
      // As parts: the picture's text is never copied into a longer one.
      const rawData = await base64(blob);
      const rest = body.slice(1);
      body = new Blob(['{"rawData":"', rawData, rest === "}" ? '"' : '",', rest]);
    }
    const encoded = performance.now();
    const response = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
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
      // A proxy in between may answer with anything.
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

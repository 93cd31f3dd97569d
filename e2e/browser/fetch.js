// What a page does that has no library: JSON by fetch. The page's address says
// which server to call, with which picture of its own, whether with GET, with which
// header beside JSON's, and with which field that no message has.
const query = new URLSearchParams(location.search);
const picture = query.get("picture");

async function base64(url) {
  const file = await (await fetch(url)).blob();
  return new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(",")[1]);
    reader.readAsDataURL(file);
  });
}

try {
  const url = query.get("server") + "/inference.v1.Inference/Predict";
  const message = JSON.stringify({ rawData: await base64(picture), imageId: picture, [query.get("field") ?? "imageId"]: picture });
  const headers = { "Content-Type": "application/json" };
  if (query.has("header")) headers[query.get("header")] = "something";
  const response =
    query.get("protocol") === "get"
      ? await fetch(`${url}?connect=v1&encoding=json&message=${encodeURIComponent(message)}`)
      : await fetch(url, { method: "POST", headers, body: message });
  console.log({
    status: response.status,
    requestId: response.headers.get("x-request-id"),
    ignored: response.headers.get("mien-ignored-fields"),
    body: await response.json(),
  });
} catch (error) {
  console.log({ refused: String(error) });
}

// Calls the server without a library, in JSON by fetch. The query of the page's URL has the server,
// the image, as a path on the page's own site, and optionally: protocol=get to send a GET request,
// a header to add, and an unknown field to add to the message.
const query = new URLSearchParams(location.search);
const image = query.get("image");

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
  const message = JSON.stringify({ rawData: await base64(image), imageId: image, [query.get("field") ?? "imageId"]: image });
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

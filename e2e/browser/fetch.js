// What a page does that has no library: JSON by fetch. The page's address says
// which server to call, and with which picture of its own.
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
  const response = await fetch(query.get("server") + "/inference.v1.Inference/Predict", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ rawData: await base64(picture), imageId: picture }),
  });
  console.log({
    status: response.status,
    requestId: response.headers.get("x-request-id"),
    body: await response.json(),
  });
} catch (error) {
  console.log({ refused: String(error) });
}

// Makes elements. Texts are set as text, never as HTML: file names and the server's messages
// are not trusted.

const SVG = "http://www.w3.org/2000/svg";

/** $ returns the element with an ID. */
export const $ = (id) => document.getElementById(id);

/** el makes an HTML element. Properties with a dash, and role, are set as attributes. Children that are null are left out. */
export function el(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "role") node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** svg makes an SVG element with attributes. */
export function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  setAttributes(node, attributes);
  node.append(...children);
  return node;
}

/** setAttributes sets the attributes of an element. */
export function setAttributes(node, attributes) {
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
}

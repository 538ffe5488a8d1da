// Reads openapi.json to people: each door with what may be asked there, and each shape with its fields.

const METHODS = ["get", "post", "put", "delete"];

fetch("openapi.json").then((response) => response.json()).then((api) => {
  text("about", api.info.description);
  const main = part("doors");
  main.textContent = "";
  const contents = element("nav");
  contents.setAttribute("aria-label", "Contents");
  main.appendChild(contents);
  for (const tag of api.tags) {
    contents.appendChild(element("h2", "The " + tag.name + " door"));
    contents.appendChild(element("ul", ...operations(api, tag).map(([path, method, asked]) => element("li", to(anchor(method, path), method.toUpperCase() + " " + path), " " + asked.summary))));
  }
  for (const tag of api.tags) {
    main.appendChild(element("h2", "The " + tag.name + " door"));
    main.appendChild(element("p", tag.description));
    for (const [path, method, asked] of operations(api, tag)) main.appendChild(operation(api, path, method, asked));
  }
  main.appendChild(element("h2", "Shapes"));
  for (const name of Object.keys(api.components.schemas)) main.appendChild(shape(name, api.components.schemas[name]));
  if (location.hash) location.replace(location.hash);
}).catch(() => {
  text("doors", "openapi.json cannot be read.");
});

// What may be asked at a door: [path, method, what is said of it].
function operations(api, tag) {
  const found = [];
  for (const path of Object.keys(api.paths)) {
    for (const method of METHODS) {
      const asked = api.paths[path][method];
      if (asked && asked.tags[0] === tag.name) found.push([path, method, asked]);
    }
  }
  return found;
}

function anchor(method, path) {
  return method + path.replace(/[^a-z0-9]+/gi, "-");
}

function operation(api, path, method, asked) {
  const title = element("h3", element("code", method.toUpperCase() + " " + path), " " + asked.summary);
  title.id = anchor(method, path);
  const section = element("section", title);
  section.appendChild(element("p", asked.description));
  const schemes = asked.security.map((one) => Object.keys(one)[0]);
  section.appendChild(element("p", schemes.length
    ? "Authorization: Bearer, " + schemes.map((scheme) => api.components.securitySchemes[scheme].description).join("; ") + "."
    : "Open to all who reach the door."));
  const given = (asked.parameters || []).map((one) => (one.$ref ? api.components.parameters[last(one.$ref)] : one)).filter((one) => one.name !== "Accept-Language");
  if (given.length) {
    section.appendChild(table(["parameter", "in", "what"], given.map((one) => [element("code", one.name), one.in, [words(one.schema), one.description].filter(Boolean).join(" ")])));
  }
  if (asked.requestBody) section.appendChild(body(asked.requestBody.content));
  const rows = Object.keys(asked.responses).map((status) => {
    const named = asked.responses[status];
    const answer = named.$ref ? api.components.responses[last(named.$ref)] : named;
    const content = answer.content || {};
    const cell = element("span");
    for (const type of Object.keys(content)) {
      cell.appendChild(typed(type, content[type].schema));
      for (const example of Object.keys(content[type].examples || {})) cell.appendChild(element("pre", content[type].examples[example].value));
    }
    return [status, answer.description, cell];
  });
  section.appendChild(table(["status", "when", "what"], rows));
  return section;
}

function body(content) {
  const line = element("p", "Body: ");
  Object.keys(content).forEach((type, nth) => line.appendChild(element("span", nth ? " or " : "", typed(type, content[type].schema))));
  return line;
}

// A media type, and the shapes that come by it.
function typed(type, schema) {
  const shapes = (schema.anyOf || [schema]).filter((one) => one.$ref);
  return element("span", type + " ", ...shapes.map((one) => element("span", link(one.$ref), " ")));
}

function shape(name, schema) {
  const title = element("h3", name);
  title.id = name;
  const section = element("section", title);
  section.appendChild(element("p", [schema.description, words(schema)].filter(Boolean).join(" ")));
  if (schema.properties) {
    const needed = schema.required || [];
    section.appendChild(table(["field", "what", ""], Object.keys(schema.properties).map((field) => {
      const type = schema.properties[field];
      const cell = element("span");
      const of = type.items || type;
      if (type.items) cell.appendChild(document.createTextNode("a list of "));
      if (of.$ref) cell.appendChild(link(of.$ref));
      else cell.appendChild(document.createTextNode(words(of)));
      if (type.description) cell.appendChild(document.createTextNode(" " + type.description));
      return [element("code", field), cell, needed.indexOf(field) < 0 ? "may be missing" : ""];
    })));
  }
  return section;
}

function words(schema) {
  const bounds = [];
  if (schema.enum) return "One of " + schema.enum.join(", ") + ".";
  if ("const" in schema) return "Always " + JSON.stringify(schema.const) + ".";
  if (schema.format) bounds.push(schema.format);
  if (schema.maxLength) bounds.push("at most " + schema.maxLength + " characters");
  if ("minimum" in schema) bounds.push("at least " + schema.minimum);
  if ("maximum" in schema) bounds.push("at most " + schema.maximum);
  if (schema.pattern) bounds.push(schema.pattern);
  const type = [].concat(schema.type || []).join(" or ");
  return type && type !== "object" ? [type].concat(bounds).join(", ") + "." : "";
}

function table(names, rows) {
  const head = names.map((name) => {
    const cell = element(name ? "th" : "td", name);
    if (name) cell.scope = "col";
    return cell;
  });
  const wide = element("div", element("table", element("tr", ...head), ...rows.map(row)));
  wide.className = "wide";
  wide.tabIndex = 0;
  return wide;
}

function to(id, words) {
  const link = element("a", words);
  link.href = "#" + id;
  return link;
}

function link(reference) {
  return to(last(reference), last(reference));
}

function last(reference) {
  return reference.split("/").pop();
}

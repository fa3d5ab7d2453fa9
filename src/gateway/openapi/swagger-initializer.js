// Swagger UI over the contract, so that each operation works there or is shown with an example that says how.

const isLines = (type) => /ndjson/.test(type);

/** Lines of JSON are filled in, sent and shown as the text that they are, not as one JSON value. */
const lines = {
  afterLoad({ fn: { getSampleSchema } }) {
    this.fn.getSampleSchema = (schema, type, ...rest) =>
      getSampleSchema(schema, isLines(type) ? 'text/plain' : type, ...rest);
  },
  wrapComponents: {
    responseBody: (Body, { React }) => (props) =>
      React.createElement(Body, isLines(props.contentType) ? { ...props, contentType: 'text/plain' } : props),
  },
};

/** What never ends is not executed: Swagger UI shows an answer when it has ended. */
const endless = {
  statePlugins: {
    spec: {
      wrapSelectors: {
        allowTryItOutFor: () => (state, path, method) =>
          !state.hasIn(['json', 'paths', path, method, 'responses', '200', 'content', 'text/event-stream']),
      },
    },
  },
};

window.ui = SwaggerUIBundle({
  url: '../openapi.json',
  dom_id: '#swagger-ui',
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
  plugins: [() => lines, () => endless],
  tryItOutEnabled: true,
  displayRequestDuration: true,
  // By default the page shows a badge from validator.swagger.io, and tells it where this node is.
  validatorUrl: 'none',
});
